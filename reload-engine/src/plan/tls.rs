//! Thread-local variables: which GOT pairs and displacements of the new file must name an older generation's block.
//!
//! General-dynamic pairs name one variable each. A local-dynamic pair names the module's whole block, and the code adds
//! each variable's offset: where all variables moved alike the pair alone is changed, else each function gets a pair of the
//! generation that owns its variables and its displacements are rewritten (psABI, "Thread-Local Storage"; FINDINGS 2.5).
//! A program has neither: distances from the thread pointer stand in its code.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ops::Range,
};

use super::{
    attribution::Decisions,
    detours::{Block, Detour, Prelude, Room, whole},
    homes::{PlannedHomes, TlsHome},
};
use crate::{
    image::{Image, Object, RelocationKind, Resolves, TlsDisplacement, TlsUse, block_use, demangle, elf::word_at},
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
    /// What functions need that use several blocks.
    pub detours: Vec<Detour>,
    pub preludes: Vec<Prelude>,
    /// One-word slots (initial-exec) and two-word slots (TLS descriptors) with the thread-local they stand for.
    pub fixed: Vec<FixedSlot>,
    /// In a program, the sites of distances to thread-locals of the new generation's own, and their offsets in the block.
    pub own_distances: Vec<(Vaddr, u64)>,
    pub own_block: Option<OwnBlock>,
    /// Reasons to refuse.
    pub refusals: Vec<String>,
}

/// Storage for the thread-locals that a program's new generation brings: a TLS block of the shadow's own, at a distance from
/// the thread pointer that the loader chooses and writes into a slot.
#[derive(Clone, Debug)]
pub struct OwnBlock {
    /// The part of the file's TLS block that holds them.
    pub range: Range<u64>,
    /// File offset of the relocation that asks for the distance.
    pub entry: u64,
    pub slot: Vaddr,
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

/// Plans the thread-locals of `image`.
pub fn plan(image: &Image, homes: &PlannedHomes, decisions: &Decisions) -> TlsPlan {
    let mut plan = TlsPlan::default();
    if image.thread_locals.is_empty() {
        return plan;
    }
    if image.tables.program {
        local_exec(image, homes, decisions, &mut plan);
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
                Some(0) if of_first_variable(image, slot) => {
                    plan.pairs.extend(home_of(image, homes, 0).map(|pair| (slot, pair, false)));
                }
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
        None => {
            split_blocks(image, homes, decisions, &blocks, &mut plan);
            described_blocks(image, homes, decisions, &mut plan);
        }
    }
    plan
}

/// A TLS descriptor of the block's start becomes that of a variable which is reached from there ([`FixedSlot`]), and what else
/// functions reach from it gets its distance from that.
fn described_blocks(image: &Image, homes: &PlannedHomes, decisions: &Decisions, plan: &mut TlsPlan) {
    let mut seen: HashSet<u32> = HashSet::new();
    for slot in image.descriptors_of_block() {
        let uses = image.tls_uses.iter().filter(|tls_use| tls_use.pair == slot);
        let functions: BTreeSet<u32> = uses.filter_map(|tls_use| tls_use.function).collect();
        let sites = image.tls_displacements.iter().filter(|site| functions.contains(&site.function));
        let meant = |site: &TlsDisplacement| decisions.thread_local(image, site.site, site.offset);
        let Some(reached) = sites.clone().filter(|site| site.certain).find_map(meant) else { continue };
        let first = image.thread_local_at(0).filter(|first| homes.thread_locals[*first] != TlsHome::Own);
        let anchor = first.unwrap_or(reached);
        let given = home_of(image, homes, image.thread_locals[anchor].address.0);
        plan.fixed.retain(|fixed| fixed.slot != slot);
        if given.is_some() {
            plan.fixed.push(FixedSlot { slot, words: 2, thread_local: anchor, inside: 0 });
        }
        let mut apart: BTreeSet<u32> = functions.iter().copied().filter(|function| !seen.insert(*function)).collect();
        for site in sites {
            let home = meant(site).and_then(|variable| moved(image, homes, variable, site.offset));
            match (given, home) {
                (Some(given), Some(home)) if site.certain && given.module == home.module => {
                    plan.displacements.push((site.site, home.offset.wrapping_sub(given.offset) as u32));
                }
                (None, None) => {}
                // What only looks like a distance need not be one, save where a variable starts.
                _ if site.certain || image.thread_locals.iter().any(|it| it.address.0 == site.offset) => {
                    apart.insert(site.function);
                }
                _ => {}
            }
        }
        plan.refusals.extend(apart.into_iter().map(|function| {
            format!(
                "`{}` reaches several thread-locals from where their block starts, and they no longer lie in one; access them from \
                 separate functions, or build without -mtls-dialect=gnu2",
                demangle(image.function_name(&image.functions[function as usize]))
            )
        }));
    }
}

/// Whether a pair of offset 0 asks for the variable that lies there, and not for the block.
fn of_first_variable(image: &Image, pair: Vaddr) -> bool {
    image.thread_local_at(0).is_some() && image.tls_uses.iter().any(|tls_use| tls_use.pair == pair && tls_use.general)
}

/// A program's code has the distances of its thread-locals from the thread pointer built in. Those of variables that stay
/// but stand elsewhere in the new file are put right; new ones get a block of the shadow's own.
fn local_exec(image: &Image, homes: &PlannedHomes, decisions: &Decisions, plan: &mut TlsPlan) {
    let Some(thread_pointer) = image.tables.thread_pointer() else { return };
    let own = image.thread_locals.iter().zip(&homes.thread_locals).filter(|(_, home)| **home == TlsHome::Own);
    let own: Vec<&Object> = own.map(|(object, _)| object).filter(|object| object.size > 0).collect();
    if let (Some(first), Some(end)) = (own.first(), own.iter().map(|object| object.end().0).max()) {
        let start = first.address.0 - first.address.0 % image.tables.tls_alignment.max(1);
        match image.tables.spare_relocation {
            Some((entry, slot)) => plan.own_block = Some(OwnBlock { range: start..end, entry, slot }),
            None => plan.refusals.extend(own.iter().map(|object| {
                format!(
                    "the thread-local `{}` is new, and this program has no place for it",
                    demangle(image.object_name(object))
                )
            })),
        }
    }
    for site in &image.tls_displacements {
        let Some(index) = decisions.thread_local(image, site.site, site.offset) else { continue };
        let object = &image.thread_locals[index];
        let distance = match homes.thread_locals[index] {
            TlsHome::At { offset, .. } => Some(offset.wrapping_add(site.offset).wrapping_sub(object.address.0)),
            TlsHome::Own => None,
        };
        if distance == Some(site.offset.wrapping_sub(thread_pointer)) {
            continue;
        }
        if !site.certain {
            plan.refusals.push(format!(
                "`{}`: cannot tell whether it uses the thread-local `{}`, which is at another place now",
                demangle(image.function_name(&image.functions[site.function as usize])),
                demangle(image.object_name(object))
            ));
        }
        match distance {
            Some(distance) => plan.displacements.push((site.site, distance as u32)),
            None => plan.own_distances.push((site.site, site.offset)),
        }
    }
}

fn home_of(image: &Image, homes: &PlannedHomes, offset: u64) -> Option<Pair> {
    moved(image, homes, image.thread_local_at(offset)?, offset)
}

/// Where the offset lies that counts from the given variable; `None` where that is the file's own.
fn moved(image: &Image, homes: &PlannedHomes, variable: usize, offset: u64) -> Option<Pair> {
    match homes.thread_locals[variable] {
        TlsHome::At { module, offset: home } => {
            let inside = offset.wrapping_sub(image.thread_locals[variable].address.0);
            Some(Pair { module, offset: home.wrapping_add(inside) })
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

fn split_blocks(image: &Image, homes: &PlannedHomes, decisions: &Decisions, blocks: &[Vaddr], plan: &mut TlsPlan) {
    let mut uses: HashMap<u32, Vec<TlsUse>> = HashMap::new();
    for tls_use in image.tls_uses.iter().filter(|tls_use| blocks.contains(&tls_use.pair)) {
        match tls_use.function {
            Some(function) => uses.entry(function).or_default().push(*tls_use),
            None => plan.refusals.push("code without a symbol uses thread-locals whose layout changed".into()),
        }
    }
    let mut room = Room::of(image);
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
        let mut displacements = Vec::new();
        for site in sites {
            let meant = decisions.thread_local(image, site.site, site.offset);
            match meant.and_then(|variable| moved(image, homes, variable, site.offset)) {
                Some(pair) => {
                    owners.push(Some(pair.module));
                    displacements.push((site.site, pair.offset as u32));
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
                plan.displacements.extend(displacements);
            }
            _ => {
                let blocks = Blocks { image, homes, decisions };
                if blocks.several(function, &uses, plan, &mut room).is_none() {
                    plan.refusals.push(format!(
                        "`{}` uses thread-locals that stay and thread-locals that are new; access them from separate functions",
                        name()
                    ));
                }
            }
        }
    }
}

/// What tells where the thread-locals of a file live.
struct Blocks<'a> {
    image: &'a Image,
    homes: &'a PlannedHomes,
    decisions: &'a Decisions,
}

impl Blocks<'_> {
    /// Has a function reach into several blocks; `None` where its code does not allow it.
    fn several(&self, function: u32, uses: &[TlsUse], plan: &mut TlsPlan, room: &mut Room) -> Option<()> {
        let pairs: Vec<Vaddr> = uses.iter().map(|tls_use| tls_use.pair).collect();
        let code = block_use(self.image, function, &pairs);
        let mut accesses = Vec::new();
        for site in self.image.tls_displacements.iter().filter(|site| site.function == function && site.certain) {
            let meant = self.decisions.thread_local(self.image, site.site, site.offset);
            let (block, offset) = match meant.and_then(|variable| moved(self.image, self.homes, variable, site.offset))
            {
                Some(pair) => (Block::Of(pair.module), pair.offset as u32),
                None => (Block::Own, site.offset as u32),
            };
            accesses.push((site.site, block, offset));
        }
        let mut blocks: Vec<Block> = accesses.iter().map(|(_, block, _)| *block).collect();
        blocks.sort_unstable();
        blocks.dedup();
        let count = |wanted: &Block| accesses.iter().filter(|(_, block, _)| block == wanted).count();
        let given = blocks.iter().copied().max_by_key(count)?;
        blocks.retain(|block| *block != given);
        blocks.push(given);

        let (mut detours, mut displacements) = (Vec::new(), Vec::new());
        for (site, wanted, offset) in accesses {
            if wanted == given {
                displacements.push((site, offset));
            } else {
                let access = code.accesses.iter().find(|access| access.site == site)?;
                detours.push(room.detour(access.clone(), (given, wanted), offset)?);
            }
        }
        // Each request must be known, or a thread could come to a detour without having the block.
        if code.requests.len() != uses.len() {
            return None;
        }
        let place = |plan: &mut TlsPlan, block: Block| match whole(block) {
            Some(pair) => AskedBy::Extra(extra_pair(plan, pair)),
            None => AskedBy::Own(pairs[0]),
        };
        let asked: Vec<AskedBy> = blocks.iter().map(|block| place(plan, *block)).collect();
        let preludes = code.requests.into_iter().map(|request| room.prelude(request, asked.clone()));
        plan.preludes.extend(preludes.collect::<Option<Vec<_>>>()?);
        plan.displacements.extend(displacements);
        if let Some(pair) = whole(given) {
            redirect(plan, uses, pair);
        }
        plan.detours.extend(detours);
        Some(())
    }
}

/// Where a pair of a block, or of a variable, stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedBy {
    /// The additional pair of this index.
    Extra(usize),
    /// One of the file's own.
    Own(Vaddr),
}

/// Index of the additional pair that holds this.
fn extra_pair(plan: &mut TlsPlan, pair: Pair) -> usize {
    plan.extra_pairs.iter().position(|known| *known == pair).unwrap_or_else(|| {
        plan.extra_pairs.push(pair);
        plan.extra_pairs.len() - 1
    })
}

fn redirect(plan: &mut TlsPlan, uses: &[TlsUse], pair: Pair) {
    let index = extra_pair(plan, pair);
    plan.redirected.extend(uses.iter().map(|tls_use| (*tls_use, index)));
}
