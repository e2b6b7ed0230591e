//! Thread-local variables: which GOT pairs and displacements of the new file must name an older generation's block.
//!
//! General-dynamic pairs name one variable each. A local-dynamic pair names the module's whole block, and the code adds
//! each variable's offset: where all variables moved alike the pair alone is changed, else each function gets a pair of the
//! generation that owns its variables and its displacements are rewritten (psABI, "Thread-Local Storage"; FINDINGS 2.5).

use std::collections::HashMap;

use super::homes::{PlannedHomes, TlsHome};
use crate::{
    image::{Image, Object, RelocationKind, Resolves, TlsUse, demangle, elf::word_at},
    model::Vaddr,
};

/// A GOT pair's two words. Module 0 stands for the new generation's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    pub module: u64,
    pub offset: u64,
}

/// What to do about thread-locals.
#[derive(Debug, Default)]
pub struct TlsPlan {
    /// Pairs in the file's GOT to be overwritten. `preemptible`: only where the loader resolved it to the new module.
    pub pairs: Vec<(Vaddr, Pair, bool)>,
    /// Additional pairs, and the references that are to use them.
    pub extra_pairs: Vec<Pair>,
    /// Reference to the pair, index into `extra_pairs`.
    pub redirected: Vec<(TlsUse, usize)>,
    /// Displacement sites and their new value.
    pub displacements: Vec<(Vaddr, u32)>,
    /// One-word slots (initial-exec) and two-word slots (TLS descriptors) with the thread-local they stand for.
    pub fixed: Vec<FixedSlot>,
    /// Reasons to refuse.
    pub refusals: Vec<String>,
}

/// A slot whose value is copied from the owning generation's own slot for the same variable.
#[derive(Clone, Copy, Debug)]
pub struct FixedSlot {
    pub slot: Vaddr,
    pub words: u8,
    /// Index into the image's thread-locals.
    pub thread_local: usize,
    /// Offset inside the variable.
    pub inside: u64,
}

/// Plans the thread-locals of `image`; `original` is what the program loaded.
pub fn plan(original: &Image, image: &Image, homes: &PlannedHomes) -> TlsPlan {
    let mut plan = TlsPlan::default();
    if image.thread_locals.is_empty() {
        return plan;
    }
    if image.tables.program {
        plan.refusals = moved_in_program(original, image, homes);
        return plan;
    }
    let mut blocks = Vec::new();
    for relocation in &image.tables.relocations {
        let slot = relocation.slot;
        let (here, preemptible) = match &relocation.resolves {
            Resolves::Here(offset) => (Some(*offset), false),
            Resolves::Symbol { here, .. } => (*here, true),
        };
        let Some(here) = here else { continue };
        match relocation.kind {
            RelocationKind::TlsModule if preemptible => {
                let own = Pair { module: 0, offset: here.0 };
                plan.pairs.push((slot, home_of(image, homes, here.0).unwrap_or(own), true));
            }
            RelocationKind::TlsModule => match word_at(&image.bytes, &image.tables.segments, Vaddr(slot.0 + 8)) {
                Some(0) | None => blocks.push(slot),
                Some(offset) => plan.pairs.extend(home_of(image, homes, offset).map(|pair| (slot, pair, false))),
            },
            RelocationKind::ThreadPointerOffset | RelocationKind::TlsDescriptor => {
                let Some(thread_local) = image.thread_local_at(here.0) else { continue };
                if homes.thread_locals[thread_local] != TlsHome::Own {
                    plan.fixed.push(FixedSlot {
                        slot,
                        words: if relocation.kind == RelocationKind::TlsDescriptor { 2 } else { 1 },
                        thread_local,
                        inside: here.0 - image.thread_locals[thread_local].address.0,
                    });
                }
            }
            _ => {}
        }
    }
    match shift_of_all(image, homes) {
        Some(None) => {}
        Some(Some(pair)) => plan.pairs.extend(blocks.into_iter().map(|slot| (slot, pair, false))),
        None => split_blocks(image, homes, &blocks, &mut plan),
    }
    plan
}

/// A program's code has the distances of its thread-locals from the thread pointer built in (local-exec).
fn moved_in_program(original: &Image, image: &Image, homes: &PlannedHomes) -> Vec<String> {
    let stays = |(object, home): (&Object, &TlsHome)| match home {
        TlsHome::At { offset, .. } => {
            original.thread_pointer_offset(*offset) == image.thread_pointer_offset(object.address.0)
        }
        TlsHome::Own => false,
    };
    let all = image.thread_locals.iter().zip(&homes.thread_locals);
    let moved = all.filter(|(object, home)| !stays((object, home)));
    moved
        .map(|(object, home)| {
            let name = demangle(image.object_name(object));
            match home {
                TlsHome::At { .. } => format!("the thread-local `{name}` is at another place in the program's block"),
                TlsHome::Own => format!("the thread-local `{name}` is new or has another size"),
            }
        })
        .collect()
}

fn home_of(image: &Image, homes: &PlannedHomes, offset: u64) -> Option<Pair> {
    let index = image.thread_local_at(offset)?;
    match homes.thread_locals[index] {
        TlsHome::At { module, offset: home } => {
            Some(Pair { module, offset: home + (offset - image.thread_locals[index].address.0) })
        }
        TlsHome::Own => None,
    }
}

/// The pair that serves every variable of the file alike: `Some(None)` when all are the file's own, `None` when they differ.
fn shift_of_all(image: &Image, homes: &PlannedHomes) -> Option<Option<Pair>> {
    let mut shifts = image.thread_locals.iter().zip(&homes.thread_locals).map(|(object, home)| match home {
        TlsHome::At { module, offset } => Some(Pair { module: *module, offset: offset.wrapping_sub(object.address.0) }),
        TlsHome::Own => None,
    });
    let first = shifts.next()?;
    shifts.all(|shift| shift == first).then_some(first)
}

fn split_blocks(image: &Image, homes: &PlannedHomes, blocks: &[Vaddr], plan: &mut TlsPlan) {
    let mut uses: HashMap<u32, Vec<TlsUse>> = HashMap::new();
    for tls_use in image.tls_uses.iter().filter(|tls_use| blocks.contains(&tls_use.pair)) {
        match tls_use.function {
            Some(function) => uses.entry(function).or_default().push(*tls_use),
            None => plan.refusals.push("code without a symbol uses thread-locals whose layout changed".into()),
        }
    }
    let mut functions: Vec<_> = uses.into_iter().collect();
    functions.sort_by_key(|(function, _)| *function);
    for (function, uses) in functions {
        let name = || demangle(image.function_name(&image.functions[function as usize]));
        let of_function = || image.tls_displacements.iter().filter(|site| site.function == function);
        let any_certain = of_function().any(|site| site.certain);
        let sites: Vec<_> = of_function().filter(|site| site.certain || !any_certain).collect();
        let starts = |offset: u64| image.thread_locals.iter().any(|object| object.address.0 == offset);
        if any_certain && of_function().any(|site| !site.certain && starts(site.offset)) {
            plan.refusals.push(format!("`{}`: cannot tell which of its accesses are to thread-locals", name()));
            continue;
        }
        if sites.is_empty() {
            // Only the start of the block is used: the variable at offset 0.
            match image.thread_local_at(0).map(|first| homes.thread_locals[first]) {
                Some(TlsHome::At { module, offset }) => redirect(plan, &uses, Pair { module, offset }),
                Some(TlsHome::Own) => {}
                None => plan.refusals.push(format!("{}: cannot tell which thread-local it uses", name())),
            }
            continue;
        }
        let mut owners: Vec<Option<u64>> = Vec::new();
        let mut moved = Vec::new();
        for site in sites {
            match home_of(image, homes, site.offset) {
                Some(pair) => {
                    owners.push(Some(pair.module));
                    moved.push((site.site, pair.offset as u32));
                }
                None => owners.push(None),
            }
        }
        owners.sort_unstable();
        owners.dedup();
        match owners[..] {
            [None] => {}
            [Some(module)] => {
                redirect(plan, &uses, Pair { module, offset: 0 });
                plan.displacements.extend(moved);
            }
            _ => plan.refusals.push(format!(
                "`{}` uses thread-locals that stay and thread-locals that are new; access them from separate functions",
                name()
            )),
        }
    }
}

fn redirect(plan: &mut TlsPlan, uses: &[TlsUse], pair: Pair) {
    let index = plan.extra_pairs.iter().position(|known| *known == pair).unwrap_or_else(|| {
        plan.extra_pairs.push(pair);
        plan.extra_pairs.len() - 1
    });
    plan.redirected.extend(uses.iter().map(|tls_use| (*tls_use, index)));
}
