//! Decides what a new file means for a module that is running: which functions changed, where statics stay, what is refused.
//!
//! Values to values. Nothing here reads a process or a file; [`bind::bind`] is given a way to read words.

use std::{cell::OnceCell, sync::Arc};

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};

mod attribution;
pub mod bind;
mod by_family;
mod closures;
mod continuity;
mod detours;
pub mod entries;
mod families;
mod guard;
pub mod homes;
pub mod hooks;
mod lasting;
pub mod lineage;
mod matching;
pub mod merge;
mod newcomers;
pub mod registration;
mod removed;
pub mod residents;
pub mod shadow;
mod start_up;
mod tls;
mod typed;

use attribution::Decisions;
use continuity::match_functions;
pub use continuity::partnered;
use homes::PlannedHomes;
use hooks::Hooks;
use lineage::{Implementers, Instance, Lineage};
use removed::Removed;
use start_up::StartUp;
use tls::TlsPlan;

use crate::{
    image::{Content, Form, Function, Image, NameKey, Object, TLS_GUARD, callers, demangle, is_guard},
    model::{Details, FunctionCounts, Place, StaticCounts, Vaddr},
};

/// Everything decided about one reload before the target is touched.
#[derive(Debug)]
pub struct Plan {
    pub image: Arc<Image>,
    /// Index in the lineage of the generation this one follows.
    pub parent: usize,
    /// Parallel to the image's functions: the family each continues.
    pub partners: Vec<Option<u32>>,
    /// Indices of functions that run their family from now on.
    pub implements: Vec<u32>,
    /// Indices of functions that exist already and do something else.
    pub changed: Vec<u32>,
    /// Functions of the generation before that nothing continues, by their indices there.
    pub removed: Vec<u32>,
    pub homes: PlannedHomes,
    /// As [`homes::storage`], where the new generation lies at 0.
    pub storage: Vec<u64>,
    pub decisions: Decisions,
    /// Indices of functions that use state of their own generation, or must run in it: not to be replaced by one of the same
    /// content.
    pub distinct: HashSet<u32>,
    /// Families that are redirected wherever they lend room to an entry that has none.
    pub lenders: HashSet<u32>,
    pub tls: TlsPlan,
    pub start_up: StartUp,
    pub hooks: Hooks,
    /// Where the shadow's additional TLS pairs stand.
    pub extra: Vaddr,
    pub functions: FunctionCounts,
    pub statics: StaticCounts,
    pub details: Details,
    pub warnings: Vec<String>,
}

impl Plan {
    /// What the file that the target's loader is to get has in place of the new file's bytes.
    pub fn shadow(&self) -> Vec<shadow::Edit> {
        shadow::edits(&self.image, self.extra, &self.tls)
    }

    /// Where the additional TLS pair of this index stands.
    fn extra_pair(&self, index: usize) -> Vaddr {
        Vaddr(self.extra.0 + index as u64 * 16)
    }

    /// Has the function of this index run in the new generation, changed or not.
    fn run_here(&mut self, function: u32) {
        // What is distinct runs here already.
        if self.distinct.insert(function) {
            self.implements.push(function);
        }
    }

    /// Where each continued family stands in the new file, by family; those behind the last are not continued.
    fn family_addresses(&self) -> Vec<Option<Vaddr>> {
        let most = self.partners.iter().flatten().max().map_or(0, |last| *last as usize + 1);
        let mut addresses = vec![None; most];
        for (function, family) in self.image.functions.iter().zip(&self.partners) {
            if let Some(family) = family {
                addresses[*family as usize] = Some(function.address);
            }
        }
        addresses
    }

    /// Whether running code would notice anything.
    pub fn changes_nothing(&self) -> bool {
        self.functions == FunctionCounts::default()
            && self.statics.new == 0
            && self.statics.reset == 0
            && self.homes.reinitialised.is_empty()
            && !self.homes.registers_anew
    }
}

/// What becomes of reasons against a reload that the user may override.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objections {
    Refuse,
    /// The user takes the risk.
    Warn,
    /// The reload has happened; this only finds out again how. Whatever cannot change the plan is not asked.
    Settled,
}

/// Plans the reload of `image` over the active generation `parent`.
///
/// # Errors
/// The reasons to refuse, one line each; without [`Objections::Refuse`] only those that the user cannot override.
pub fn plan(lineage: &Lineage, parent: usize, image: Arc<Image>, objections: Objections) -> Result<Plan, Vec<String>> {
    let mut warnings = Vec::new();
    let mut refusals = Vec::new();
    let matched = || match_functions(lineage, parent, &image, &mut warnings);
    let ((partners, misled), namesakes) = image.hands.both(matched, || homes::namesakes(lineage, parent, &image));
    let homes = homes::plan(lineage, parent, &image, &partners, namesakes);
    let decisions = attribution::decide(lineage, parent, &image, &partners, &homes);
    let tls = tls::plan(&image, &homes, &decisions);

    for name in &homes.ambiguous {
        refusals.push(format!("several statics are called `{}` and nothing tells them apart", demangle(name)));
    }
    warnings.extend(homes.by_order.iter().map(|name| {
        let name = demangle(name);
        format!("several statics of one function are called `{name}`: the first stays the first, and so on")
    }));
    refusals.extend(homes.unplaced.iter().cloned());
    refusals.extend(tls.refusals.iter().cloned());
    refusals.extend(never_constructed(&image, &homes));
    let mut start_up = start_up::plan(lineage.start_up(), &image, &homes);
    refusals.append(&mut start_up.refusals);
    // What cannot be constructed is often unclear to refer to as well: that is not what to mend.
    refusals.extend(decisions.open.iter().cloned());
    warnings.append(&mut start_up.warnings);
    match stripped(&lineage.placed(parent).image, &image) {
        Some(Stripped::Alike) => warnings.push(STRIPPED.to_owned()),
        Some(Stripped::Otherwise(reason)) => refusals.push(reason.to_owned()),
        None => {}
    }
    if objections != Objections::Refuse {
        warnings.extend(refusals.drain(..).map(|reason| format!("forced: {reason}")));
    }
    let extra = shadow::place_of_pairs(&image, &tls.extra_pairs).unwrap_or_else(|reason| {
        refusals.push(reason);
        Vaddr(0)
    });
    if !refusals.is_empty() {
        if objections == Objections::Refuse {
            refusals.extend(guard_layouts(lineage, parent, &image, &partners, &homes).refusals);
        }
        return Err(refusals);
    }

    let mut distinct = users_of_own_state(&image, &homes, &decisions);
    distinct.extend(&misled);
    let differ = || difference(lineage, parent, &image, (&partners, &homes, &distinct, &misled), objections);
    let (difference, findings) = match objections {
        Objections::Settled => (differ(), guard::Findings::default()),
        _ => {
            // Both ask for it, and it is made by all hands.
            image.uses_of_state();
            let guarded = || guard_layouts(lineage, parent, &image, &partners, &homes);
            let (findings, difference) = image.hands.both(guarded, differ);
            (difference, findings)
        }
    };
    warnings.extend(difference.lasting);
    if let Some(reason) = another(&lineage.placed(parent).image, &image, &partners) {
        match objections {
            Objections::Refuse => return Err(vec![reason]),
            Objections::Warn => warnings.push(format!("forced: {reason}")),
            Objections::Settled => {}
        }
    }
    let mut plan = Plan {
        parent,
        partners,
        implements: difference.implements,
        changed: difference.changed,
        removed: difference.removed,
        storage: difference.storage,
        distinct,
        lenders: HashSet::new(),
        homes,
        decisions,
        tls,
        start_up,
        hooks: Hooks::of(&image),
        extra,
        functions: difference.counts,
        statics: StaticCounts::default(),
        details: difference.details,
        warnings,
        image,
    };
    bring_callers_along(lineage, &mut plan);
    count_statics(&lineage.placed(parent).image, &mut plan);
    warn_of_copies(&mut plan);
    warn_of_resolvers(&lineage.placed(parent).image, &mut plan);
    if !plan.changes_nothing() {
        plan.warnings.extend(findings.warnings);
        plan.warnings.extend(findings.unchecked.clone());
        plan.details.unchecked = findings.unchecked;
        if objections == Objections::Refuse && !findings.refusals.is_empty() {
            return Err(findings.refusals);
        }
        plan.warnings.extend(findings.refusals.into_iter().map(|reason| format!("forced: {reason}")));
    }
    Ok(plan)
}

fn guard_layouts(
    lineage: &Lineage,
    parent: usize,
    image: &Image,
    partners: &[Option<u32>],
    homes: &PlannedHomes,
) -> guard::Findings {
    let running: Vec<&Image> = lineage.all().iter().map(|placed| &*placed.image).collect();
    let compare = |generation: usize, old: &Image, homes: &PlannedHomes| {
        let was = |family: u32| Some(lineage.instance(family, generation)?.function as usize);
        let matched = || partners.iter().zip(0..).filter_map(|(family, index)| Some((was((*family)?)?, index)));
        guard::check(old, image, matched, homes, &running)
    };
    let old = &lineage.placed(parent).image;
    let untyped = !old.layouts().is_known() && image.layouts().is_known();
    let Some((generation, typed)) = untyped.then(|| typed::before(lineage, parent)).flatten() else {
        return compare(parent, old, homes);
    };
    let before = lineage.placed(generation);
    let mut findings = compare(generation, &typed, &typed::homes_since(homes, before));
    findings.unchecked = Some(format!(
        "layouts unchecked: what runs has no type information; compared are those of generation {}, the last one that had",
        before.number
    ));
    findings
}

/// Whether the new file is a build of something else: next to nothing of what runs, or ever ran, is in it.
fn another(old: &Image, new: &Image, partners: &[Option<u32>]) -> Option<String> {
    const FEWEST: usize = 8;
    /// One function in so many is there by chance: `main`, say.
    const CHANCE: usize = 50;
    let is_own = |function: &&Function| !function.auxiliary && !function.indirect;
    let running = old.functions.iter().filter(is_own).map(|function| function.address).collect::<HashSet<_>>().len();
    let known = new.functions.iter().zip(partners).filter(|(function, family)| is_own(function) && family.is_some());
    let known = known.count();
    (running >= FEWEST && known * CHANCE < running).then(|| {
        format!(
            "{known} functions of the new file are known, of {running} that run: it looks like a build of something else"
        )
    })
}

const STRIPPED: &str = "the file has no symbol table (it was stripped): only what it exports is followed; whoever holds a \
                        pointer to another function goes on in old code";

enum Stripped {
    /// Both files are, and their data lies as it did.
    Alike,
    Otherwise(&'static str),
}

/// Without local symbols hidden statics cannot be told apart; that is harmless only while nothing has moved.
fn stripped(old: &Image, new: &Image) -> Option<Stripped> {
    if old.tables.has_local_symbols && new.tables.has_local_symbols {
        return None;
    }
    let has_state = |image: &Image| image.objects.iter().any(|object| !object.constant && object.size > 0);
    if old.tables.has_local_symbols != new.tables.has_local_symbols && (has_state(old) || has_state(new)) {
        return Some(Stripped::Otherwise(
            "one of the two files has no symbol table (it was stripped), so hidden statics cannot be found; build both \
             without stripping (`-s`, `strip`), or both with it",
        ));
    }
    let layout = |image: &Image| -> Vec<(String, u64, u64)> {
        let start = image.tables.sections.iter().find(|s| s.kind.is_state()).map_or(0, |section| section.address);
        let sections = image.tables.sections.iter().filter(|section| section.kind.is_state());
        let state = image.objects.iter().filter(|object| !object.constant);
        sections
            .map(|section| (section.name.clone(), section.address - start, section.size))
            .chain(state.map(|o| (image.object_name(o).to_owned(), o.address.0.wrapping_sub(start), o.size)))
            .collect()
    };
    if layout(old) == layout(new) {
        return Some(Stripped::Alike);
    }
    Some(Stripped::Otherwise(
        "the file has no symbol table (it was stripped) and its data layout changed, so hidden statics cannot be found; \
         build it without stripping (`-s`, `strip`)",
    ))
}

/// C++ sets up all thread-local objects of a source file at once, when a thread first uses one of them. Threads that have done
/// so would never construct a new one.
fn never_constructed(image: &Image, homes: &PlannedHomes) -> Vec<String> {
    let stays = |index: &usize| homes.thread_locals[*index] != homes::TlsHome::Own;
    let guard = |index: &usize| image.object_name(&image.thread_locals[*index]) == TLS_GUARD;
    // What a constructor sets up begins as zeroes; inside a function it has a guard of its own.
    let constructed = image.tables.tls_template.map_or(0, |template| template.file_size);
    let object = |index: &usize| {
        let object = &image.thread_locals[*index];
        !stays(index)
            && object.address.0 >= constructed
            && !is_guard(image.object_name(object))
            && !image.object_name(object).starts_with("_ZZ")
    };
    if !(0..image.thread_locals.len()).any(|index| guard(&index) && stays(&index)) {
        return Vec::new();
    }
    let mut names: Vec<(String, bool)> = image
        .thread_locals_by_user()
        .into_values()
        .filter(|used| used.iter().any(|index| guard(index) && stays(index)))
        .flat_map(|used| used.into_iter().filter(object).collect::<Vec<_>>())
        .map(|index| {
            (demangle(image.object_name(&image.thread_locals[index])), homes.new_thread_locals.contains(&index))
        })
        .collect();
    names.sort();
    names.dedup();
    let reason = |(name, new)| {
        let what = if new { "is a new thread_local object" } else { "is a thread_local object that changed its size" };
        format!(
            "`{name}` {what}: threads that use another one of its source file already would never construct it; make it \
             static inside a function"
        )
    };
    names.into_iter().map(reason).collect()
}

/// How the functions of a new file differ from those that run.
struct Difference {
    /// As [`Plan::implements`], [`Plan::changed`], [`Plan::removed`] and [`Plan::storage`].
    implements: Vec<u32>,
    changed: Vec<u32>,
    removed: Vec<u32>,
    storage: Vec<u64>,
    counts: FunctionCounts,
    /// Names of functions.
    details: Details,
    /// As [`lasting::warnings`] says.
    lasting: Vec<String>,
}

fn difference(
    lineage: &Lineage,
    parent: usize,
    image: &Image,
    (partners, homes, distinct, misled): (&[Option<u32>], &PlannedHomes, &HashSet<u32>, &HashSet<u32>),
    objections: Objections,
) -> Difference {
    let implementers = lineage.implementers(parent);
    let path = lineage.path(parent);
    // Exact for functions that use no storage of their own, which are told apart anyway.
    let kept_storage = homes::storage(image, &homes.placed(Place::default(), image));
    let old = lineage.placed(parent);
    let running = |index: usize, family: u32| {
        // Nearly all are what the file before was too, which is at hand.
        let before = Instance { generation: parent, function: index as u32 };
        let runs_on = old.families.get(index) == Some(&family)
            && implementers.get(family).is_none()
            && lineage.is_as_in_the_first(before);
        if runs_on { Some(before) } else { lineage.implementer(&implementers, &path, family) }
    };
    let (mut implements, mut changed) = (Vec::new(), Vec::new());
    let mut changed_names = Names::default();
    let mut oldest = Vec::new();
    let mut added = Names::default();
    for (index, function) in image.functions.iter().enumerate() {
        if function.auxiliary || function.indirect {
            continue;
        }
        match partners[index].and_then(|family| running(index, family)) {
            None => {
                if partners[index].is_some() {
                    implements.push(index as u32);
                }
                added.note(function.address.0, image.function_name(function));
            }
            Some(running) => {
                let content = lineage.content(running);
                let same = content.is_some() && content == image.contents[index] && !misled.contains(&(index as u32));
                let own_storage = distinct.contains(&(index as u32));
                let storage = lineage.placed(running.generation).storage[running.function as usize];
                if !same || own_storage || storage != kept_storage[index] {
                    implements.push(index as u32);
                }
                if !same {
                    changed.push(index as u32);
                    changed_names.note(function.address.0, image.function_name(function));
                    let family = lineage.placed(running.generation).families[running.function as usize];
                    let first = lineage.oldest(family);
                    let is_as_first =
                        lineage.content(first).is_some() && lineage.content(first) == image.contents[index];
                    oldest.push((first, is_as_first));
                }
            }
        }
    }
    let partnered = partnered(lineage, partners);
    let mut removed = Vec::new();
    let mut removed_names = Names::default();
    for (index, function) in old.image.functions.iter().enumerate() {
        if !function.auxiliary && !function.indirect && !partnered[old.families[index] as usize] {
            removed.push(index as u32);
            removed_names.note(function.address.0, old.image.function_name(function));
        }
    }
    let counts = FunctionCounts {
        changed: changed_names.addresses.len(),
        added: added.addresses.len(),
        removed: removed_names.addresses.len(),
        unpatchable: 0,
    };
    let details = Details {
        changed: changed_names.names,
        added: added.names,
        removed: removed_names.names,
        ..Details::default()
    };
    let lasting = if objections == Objections::Settled { Vec::new() } else { lasting::warnings(lineage, &oldest) };
    Difference { implements, changed, removed, storage: kept_storage, counts, details, lasting }
}

/// Where an old entry cannot be made to jump, the functions that call it run in the new generation instead, where their
/// calls reach the new code; and so on up, while those have no room either.
fn bring_callers_along(lineage: &Lineage, plan: &mut Plan) {
    // Few files have anything entangled.
    let new_address = OnceCell::new();
    let parts_ways = |plan: &Plan, function: u32| {
        let Some(family) = plan.partners[function as usize].filter(|family| lineage.is_entangled(*family)) else {
            return false;
        };
        let address = plan.image.functions[function as usize].address;
        let new_address = new_address.get_or_init(|| plan.family_addresses());
        lineage.instances(family).any(|instance| {
            lineage.sharers(instance).any(|(_, other)| {
                new_address.get(other as usize).is_some_and(|new| new.is_some_and(|new| new != address))
            })
        })
    };
    let mut lending = Lending::of(lineage, plan);
    let mut stuck = |plan: &mut Plan, function: u32| {
        let Some(family) = plan.partners[function as usize] else { return false };
        let room = lending.make_room(plan, family);
        !room || parts_ways(plan, function)
    };
    let mut open: HashSet<u32> = HashSet::new();
    for function in plan.implements.clone() {
        if stuck(plan, function) {
            open.insert(function);
        }
    }
    let mut known: HashSet<u32> = plan.implements.iter().copied().collect();
    while !open.is_empty() {
        let mut next = HashSet::new();
        for caller in callers(&plan.image, &open) {
            if plan.partners[caller as usize].is_some() && known.insert(caller) {
                plan.run_here(caller);
                if stuck(plan, caller) {
                    next.insert(caller);
                }
            }
        }
        open = next;
    }
}

/// Sees to it that functions which lend room to others are redirected.
struct Lending<'a> {
    lineage: &'a Lineage,
    implementers: Implementers,
    /// Where each family continues in the new file.
    continued: HashMap<u32, u32>,
}

impl<'a> Lending<'a> {
    /// What borrows already keeps its room.
    fn of(lineage: &'a Lineage, plan: &mut Plan) -> Self {
        let mut continued = HashMap::new();
        let borrowers: Vec<(Instance, u32)> = lineage.borrowers().collect();
        let implementers = lineage.implementers(plan.parent);
        if !borrowers.is_empty() {
            let functions = plan.partners.iter().enumerate();
            continued.extend(functions.filter_map(|(function, family)| Some(((*family)?, function as u32))));
        }
        let lending = Lending { lineage, implementers, continued };
        for (borrower, family) in borrowers {
            if lending.implementers.get(family).is_some() {
                lending.has_room(plan, borrower);
            }
        }
        lending
    }

    /// Whether every entry of `family` can be redirected.
    fn make_room(&mut self, plan: &mut Plan, family: u32) -> bool {
        !self.lineage.is_entangled(family)
            || self.lineage.instances(family).all(|instance| self.has_room(plan, instance))
    }

    /// Whether this entry can be redirected, by having its lender run in the new generation if need be.
    fn has_room(&self, plan: &mut Plan, instance: Instance) -> bool {
        if self.lineage.entry(instance).form == Form::None {
            return false;
        }
        let Some(lender) = self.lineage.lender(instance) else { return true };
        let family = self.lineage.placed(lender.generation).families[lender.function as usize];
        let redirected = match self.continued.get(&family) {
            Some(function) => {
                plan.run_here(*function);
                true
            }
            // It is gone: whoever ran it last still does.
            None => self.implementers.get(family).is_some_and(|last| !self.lineage.interchangeable(lender, last)),
        };
        if redirected {
            plan.lenders.insert(family);
        }
        redirected
    }
}

/// The functions that use storage of the new generation's own.
fn users_of_own_state(image: &Image, homes: &PlannedHomes, decisions: &Decisions) -> HashSet<u32> {
    let own = |object: usize| {
        let state = image.objects[object].size > 0 && !image.objects[object].constant;
        state && homes.objects[object] == homes::Home::Own
    };
    if !(0..image.objects.len()).any(own) {
        return HashSet::new();
    }
    let users = image.references.iter().filter(|reference| decisions.object(image, reference).is_some_and(own));
    let functions = users.filter_map(|reference| reference.function());
    // Aliases share their code.
    functions
        .flat_map(|function| {
            let address = image.functions[function as usize].address;
            (function..).take_while(move |alias| {
                image.functions.get(*alias as usize).is_some_and(|other| other.address == address)
            })
        })
        .collect()
}

/// Functions counted once per address, named up to the limit of the report.
#[derive(Default)]
struct Names {
    addresses: HashSet<u64>,
    names: Vec<String>,
}

impl Names {
    fn note(&mut self, address: u64, name: &str) {
        if self.addresses.insert(address) && self.names.len() < Details::LIMIT {
            self.names.push(demangle(name));
        }
    }
}

fn count_statics(old: &Image, plan: &mut Plan) {
    let homes = &plan.homes;
    let kept_thread_locals: Vec<usize> =
        (0..homes.thread_locals.len()).filter(|index| homes.thread_locals[*index] != homes::TlsHome::Own).collect();
    let removed = Removed::of(old, homes);
    let thread_locals = StaticCounts {
        kept: kept_thread_locals.len(),
        new: homes.new_thread_locals.len(),
        reset: homes.reset_thread_locals.len(),
        merged: 0,
        removed: removed.thread_locals.len(),
    };
    plan.statics = StaticCounts {
        kept: homes.kept.len() + thread_locals.kept,
        new: homes.new.len() + thread_locals.new,
        reset: homes.reset.len() + thread_locals.reset,
        merged: 0,
        removed: removed.objects.len() + thread_locals.removed,
    };
    plan.details.thread_locals = thread_locals;
    let image = &plan.image;
    let names = |objects: &[usize], thread_locals: &[usize]| -> Vec<String> {
        let objects = objects.iter().map(|index| &image.objects[*index]);
        let thread_locals = thread_locals.iter().map(|index| &image.thread_locals[*index]);
        objects.chain(thread_locals).take(Details::LIMIT).map(|object| demangle(image.object_name(object))).collect()
    };
    plan.details.kept_statics = names(&homes.kept, &kept_thread_locals);
    plan.details.new_statics = names(&homes.new, &homes.new_thread_locals);
    plan.details.reset_statics = names(&homes.reset, &homes.reset_thread_locals);
    plan.details.removed_statics = removed.names(old);
    plan.warnings.extend(removed.perhaps_renamed(old, image, homes));
    plan.warnings.extend(homes.renewed_sets.iter().map(|section| {
        format!("the set of statics in section `{section}` has changed: all of it starts anew, and old code keeps using the old one")
    }));
    let in_set = |object: &Object| {
        image.section_at(object.address).is_some_and(|section| homes.renewed_sets.contains(&section.name))
    };
    let resized = homes.reset.iter().map(|index| &image.objects[*index]).filter(|object| !in_set(object));
    let resized = resized.chain(homes.reset_thread_locals.iter().map(|index| &image.thread_locals[*index]));
    plan.warnings.extend(resized.take(Details::LIMIT).map(|object| {
        let name = demangle(image.object_name(object));
        format!("`{name}` changed its size: it starts anew, and old code keeps using the old one")
    }));
}

/// What an IFUNC stands for is asked once, when a module is loaded.
fn warn_of_resolvers(old: &Image, plan: &mut Plan) {
    let image = &plan.image;
    let resolvers = |image: &'_ Image| -> Vec<usize> {
        (0..image.functions.len()).filter(|index| image.functions[*index].indirect).collect()
    };
    let was: HashMap<NameKey, Option<Content>> =
        resolvers(old).into_iter().map(|index| (old.identities()[index].key, old.contents[index])).collect();
    let changed = resolvers(image).into_iter().filter(|index| {
        let before = was.get(&image.identities()[*index].key);
        before.is_some_and(|before| before.is_none() || *before != image.contents[*index])
    });
    let names: Vec<String> = changed.map(|index| demangle(image.function_name(&image.functions[index]))).collect();
    plan.warnings.extend(names.into_iter().map(|name| {
        format!(
            "`{name}` is chosen by its resolver when a module is loaded, and the resolver has changed: other modules keep the \
             choice that they were given"
        )
    }));
}

/// A program is linked to have its own copy of another module's variable, which that module then uses as well; a copy that
/// comes later is not the one. The other module's is out of the new code's reach.
fn warn_of_copies(plan: &mut Plan) {
    let image = &plan.image;
    let own = |at: &Vaddr| {
        let object = image.object_at(*at).filter(|object| plan.homes.objects[*object] == homes::Home::Own)?;
        (!image.objects[object].constant).then(|| demangle(image.object_name(&image.objects[object])))
    };
    let names: Vec<String> = image.tables.copies.iter().filter_map(own).collect();
    plan.warnings.extend(names.into_iter().map(|name| {
        format!(
            "`{name}` belongs to another module, and the program did not use it before: new code has a copy, as it is now; \
             to share it, compile with -fPIC or restart the target"
        )
    }));
}
