//! Types whose layout changed while objects of them may be alive: new code would read those wrongly, without a crash.
//!
//! Judges two files by their debugging information. It cannot see through `void *`, byte buffers or a host's own copies, and
//! does not judge what a field means: the same layout with another meaning passes.

use std::{cell::OnceCell, collections::BTreeSet};

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};

use super::{
    homes::{PlannedHomes, TlsHome},
    lasting, registration,
};
use crate::{
    image::{
        ANONYMOUS_NAMESPACE, Content, Image, LIBRARY_ROOTS, NameKey, RelocationKind, Resolves, as_written, demangle,
        layout::{Edge, Layout, Layouts, Link, Part, Signature, Site, Type, TypeKey, Variable, Wanted, describe},
        name_of_closures,
    },
    model::{Details, Vaddr},
};

/// What the types say against a reload.
#[derive(Debug, Default)]
pub struct Findings {
    pub refusals: Vec<String>,
    pub warnings: Vec<String>,
    /// Where nothing could be compared: what, and the flag that is missing.
    pub unchecked: Option<String>,
}

/// Compares the running file with the new one; `matched` gives the indices, in the old and the new file, of functions that
/// continue each other, `running` are all generations that may have frames on stacks.
pub fn check<M: Iterator<Item = (usize, usize)>>(
    old: &Image,
    new: &Image,
    matched: impl Fn() -> M,
    homes: &PlannedHomes,
    running: &[&Image],
) -> Findings {
    let mut findings = Findings::default();
    let touched = Touched::between(old, new, matched());
    let part = touched.units(old, new, homes);
    findings.unchecked = touched.unchecked(old, new, &part);
    if !old.layouts().is_known() || part.elsewhere.is_some() || touched.is_harmless(old, new, homes, &part) {
        return findings;
    }
    let (before, after) = (old.layouts(), new.layouts());
    let statics = kept_statics(old, new, after, homes);
    let changed = changed_types(before, after);
    if !changed.is_empty() {
        let mut harmful = harmful(before, &changed, &statics, touched.signatures(matched()));
        let rest: HashSet<TypeKey> = changed.iter().copied().filter(|key| !harmful.contains(key)).collect();
        if !rest.is_empty() {
            let (lasting, unseen) = in_lasting_frames(running, before, &rest);
            harmful.extend(&lasting);
            findings.warnings.extend(unseen.then(|| LOST.to_owned()));
        }
        let told = tell_types(old, new, &harmful);
        findings.refusals.extend(told);
        let brief: Vec<TypeKey> = changed.iter().copied().filter(|key| !harmful.contains(key)).collect();
        if findings.refusals.is_empty() {
            let told = tell_types(old, new, &sorted(brief)).into_iter().take(BRIEF);
            findings
                .warnings
                .extend(told.map(|line| format!("{line}; calls under way that have one on their stack misread it")));
        }
    }
    tell_statics(old, new, &statics, &mut findings);
    if findings.refusals.is_empty() {
        findings.refusals.extend(tell_captures(&touched, new, after));
    }
    for (was, is, index) in touched.continued_signatures(new, after).filter(|(was, ..)| touched.is_asked_anew(was)) {
        let name = || demangle(new.function_name(&new.functions[index]));
        // What is passed on top is looked at by nobody (psABI 3.2.3), and taken away by who has passed it.
        let same = was.parameters.starts_with(&is.parameters);
        if !same && is.parameters.starts_with(&was.parameters) {
            findings.warnings.push(format!(
                "`{}` takes more parameters than it did: callers outside of this file, and calls by pointers to it, do not pass them",
                name()
            ));
        } else if !same {
            findings.refusals.push(format!(
                "`{}` changed its parameters: callers outside the library, and pointers to it, pass the old ones",
                name()
            ));
        }
        // What gave nothing is expected to give nothing, but a place to put it is expected to be one.
        if was.result != is.result && (was.result.is_some() || is.may_need_place) {
            findings.refusals.push(format!(
                "`{}` changed what it returns: callers outside the library, and pointers to it, expect the old",
                name()
            ));
        }
    }
    findings
}

/// How many types are told of that live on stacks for moments only.
const BRIEF: usize = 4;

const LOST: &str = "the store was full, so an old generation has lost its debugging information: what its `main` and its threads \
                    hold in their frames is not compared";

/// Those of the types that are in the frame of what begins a program or a thread, by value or pointed to from there, in any
/// generation that runs: it was there before the reload and will be after it. And whether that could not be seen of one.
fn in_lasting_frames(running: &[&Image], types: &Layouts, changed: &HashSet<TypeKey>) -> (Vec<TypeKey>, bool) {
    let mut found: HashSet<TypeKey> = HashSet::new();
    let mut unseen = false;
    for image in running {
        let Some(bytes) = image.bytes_with_debugging() else {
            unseen = true;
            continue;
        };
        let held = Layouts::held_by(&bytes, &lasting::roots(image)).into_iter().map(|(_, key)| (key, false));
        found.extend(reach(types, held, Follow::Values).into_keys().filter(|key| changed.contains(key)));
    }
    (sorted(found.into_iter().collect()), unseen)
}

fn sorted(mut keys: Vec<TypeKey>) -> Vec<TypeKey> {
    keys.sort_unstable();
    keys
}

/// What the new file brings: where no code differs nothing is misread, whatever a type has become.
struct Touched<'a> {
    old: &'a Image,
    /// Where the new functions begin that differ from the old ones or had no counterpart, ascending.
    after: Vec<Vaddr>,
    /// Those of them that had a counterpart, after it, by index.
    differing: Vec<(usize, usize)>,
    /// Where those begin.
    continued: Vec<Vaddr>,
    /// And their counterparts, in the old file.
    before: Vec<Vaddr>,
    /// Functions of the old file that callers outside of it can know; few edits make anybody ask.
    exposed: OnceCell<HashSet<Vaddr>>,
}

impl<'a> Touched<'a> {
    fn between(old: &'a Image, new: &Image, matched: impl Iterator<Item = (usize, usize)>) -> Self {
        let mut same = vec![false; new.functions.len()];
        let mut differing = Vec::new();
        for (was, is) in matched {
            let content = old.contents[was];
            if content.is_some() && content == new.contents[is] {
                same[is] = true;
            } else {
                differing.push((was, is));
            }
        }
        let mut before: Vec<Vaddr> = differing.iter().map(|(was, _)| old.functions[*was].address).collect();
        let mut continued: Vec<Vaddr> = differing.iter().map(|(_, is)| new.functions[*is].address).collect();
        // Pieces that the compiler split off continue nothing; most are what they were.
        let pieces = old.functions.iter().zip(&old.contents).filter(|(function, _)| function.auxiliary);
        let pieces: HashSet<(NameKey, Option<Content>)> =
            pieces.map(|(piece, content)| (old.identity(piece).key, *content)).collect();
        let is_known_piece = |index: usize| {
            let (function, content) = (&new.functions[index], new.contents[index]);
            function.auxiliary && content.is_some() && pieces.contains(&(new.identity(function).key, content))
        };
        let functions = same.into_iter().enumerate().filter(|(index, same)| !same && !is_known_piece(*index));
        let mut after: Vec<Vaddr> = functions.map(|(index, _)| new.functions[index].address).collect();
        after.sort_unstable();
        continued.sort_unstable();
        before.sort_unstable();
        Touched { old, after, differing, continued, before, exposed: OnceCell::new() }
    }

    /// Of the new file the units that the touched code is in, or what it uses of the statics that stay.
    fn units(&self, old: &Image, new: &Image, homes: &PlannedHomes) -> Layouts {
        let kept: HashSet<usize> = homes.kept.iter().copied().collect();
        let is_touched = |function: u32| self.after.binary_search(&new.functions[function as usize].address).is_ok();
        let touched = self.after.iter().filter_map(|address| new.function_starting_at(*address));
        let references = touched.flat_map(|function| new.functions[function].those_in(&new.references));
        let statics = references.filter_map(|reference| new.object_meant(reference.target));
        let used: HashSet<usize> = statics.filter(|object| kept.contains(object)).collect();
        let previous = used.into_iter().filter_map(|object| homes.previous_objects[object]);
        let layouts = old.layouts();
        let variables = previous.flat_map(|object| layouts.variables_at(false, old.objects[object].address));
        // Whatever uses one of the thread-locals is taken to use all: they are few.
        let uses_thread_locals = new.tls_uses.iter().filter_map(|use_| use_.function).any(is_touched)
            || new.tls_displacements.iter().any(|displacement| is_touched(displacement.function));
        let variables = variables.chain(if uses_thread_locals { layouts.thread_locals() } else { &[] });
        let of_variables = variables.filter_map(|variable| layouts.unit_of(variable.site));
        // Nearly all code stays in the unit that it was in.
        let of_code = layouts.units.iter().filter(|unit| unit.covers_any(&self.before));
        let names: HashSet<u64> = of_variables.chain(of_code).map(|unit| unit.name).collect();
        Layouts::read_some(&new.bytes, &Wanted { names: &names, code: &self.after, functions: &self.continued })
    }

    /// What to say where touched code has no type information.
    fn unchecked(&self, old: &Image, new: &Image, part: &Layouts) -> Option<String> {
        let file = |image: &Image| image.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let remedy = "build with -g (Rust: debug = 2)";
        for (image, layouts) in [(old, old.layouts()), (new, part)] {
            if let Some(reason) = layouts.elsewhere {
                return Some(format!("layouts unchecked: {}: {reason}", file(image)));
            }
        }
        if !old.layouts().is_known() {
            return Some(if part.is_known() {
                format!(
                    "layouts unchecked: what runs of {} has no type information; the next reload is checked",
                    file(new)
                )
            } else {
                format!("layouts unchecked: {} has no type information; {remedy}", file(new))
            });
        }
        let typed = |layouts: &Layouts, functions: &[Vaddr]| {
            layouts.units.iter().any(|unit| unit.typed && unit.covers_any(functions))
        };
        if typed(old.layouts(), &self.before) && !typed(part, &self.continued) {
            return Some(format!("layouts unchecked: {} has no type information; {remedy}", file(new)));
        }
        // A unit without a type is not told from one that needs none.
        let bare = |image: &Image, layouts: &Layouts, functions: &[Vaddr]| -> Vec<String> {
            let covered = |address: &Vaddr| layouts.units.iter().any(|unit| unit.covers_any(&[*address]));
            let bare = functions.iter().filter(|address| !covered(address));
            let functions = bare.filter_map(|address| image.function_starting_at(*address));
            // What cannot be decoded is assembly.
            let named =
                functions.filter(|index| !image.functions[*index].auxiliary && image.contents[*index].is_some());
            named.map(|index| demangle(image.function_name(&image.functions[index]))).collect()
        };
        let mut functions = bare(new, part, &self.continued);
        functions.extend(bare(old, old.layouts(), &self.before));
        functions.sort();
        functions.dedup();
        let more = match functions.len() {
            0 => return None,
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        Some(format!("layouts unchecked: no type information for `{}`{more}; {remedy}", functions[0]))
    }

    /// Whether those units alone show that no type, static or function that existed has become another. They cannot show the
    /// contrary: a shape that is missed there may be in another unit.
    fn is_harmless(&self, old: &Image, new: &Image, homes: &PlannedHomes, part: &Layouts) -> bool {
        let before = old.layouts();
        let gained = part.types.iter().any(|(key, is)| {
            let Some(was) = before.types.get(key).filter(|was| !was.shapes.is_empty()) else { return false };
            is.shapes.iter().any(|(shape, _)| !was.shapes.iter().any(|(known, _)| known == shape))
        });
        let same_type = |kept: &Kept<'_>| kept.old.iter().any(|old| old.ty == kept.new.ty);
        !gained
            && kept_statics(old, new, part, homes).iter().all(same_type)
            && self.continued_signatures(new, part).all(|(was, is, _)| {
                was.captures == is.captures
                    && ((was.parameters == is.parameters && was.result == is.result) || !self.is_asked_anew(was))
            })
    }

    /// Whether callers outside of the library get other code than before from this function of the old file, which differs.
    fn is_asked_anew(&self, was: &Signature) -> bool {
        self.exposed.get_or_init(|| exposed_functions(self.old)).contains(&was.address)
    }

    /// What old functions take and give that are continued.
    fn signatures(&self, matched: impl Iterator<Item = (usize, usize)>) -> impl Iterator<Item = &'a Signature> {
        let old = self.old;
        let matched = matched.map(|(was, _)| old.functions[was].address);
        matched.flat_map(|address| old.layouts().signatures_at(address))
    }

    /// The same of those that differ, before and after, with the index of the new one.
    fn continued_signatures<'b>(
        &'b self,
        new: &'b Image,
        after: &'b Layouts,
    ) -> impl Iterator<Item = (&'b Signature, &'b Signature, usize)> {
        self.differing.iter().flat_map(move |(was, is)| {
            let was = self.old.layouts().signatures_at(self.old.functions[*was].address);
            let now = after.signatures_at(new.functions[*is].address).last();
            was.iter().filter_map(move |was| Some((was, now?, *is)))
        })
    }
}

/// A static that stays: what it is in both files.
struct Kept<'a> {
    /// As it stands in the new file.
    name: &'a str,
    /// At least one.
    old: &'a [Variable],
    new: &'a Variable,
}

/// Of what `after`, which describes the new file, knows.
fn kept_statics<'a>(old: &'a Image, new: &'a Image, after: &'a Layouts, homes: &PlannedHomes) -> Vec<Kept<'a>> {
    let kept: HashSet<usize> = homes.kept.iter().copied().collect();
    let object = |variable: &Variable| {
        let index = new.object_at(variable.address)?;
        let previous = homes.previous_objects[index].filter(|_| kept.contains(&index))?;
        Some((&new.objects[index], old.objects[previous].address))
    };
    let thread_local = |variable: &Variable| {
        let index = new.thread_local_at(variable.address.0)?;
        let stays = homes.thread_locals[index] != TlsHome::Own;
        let previous = homes.previous_thread_locals[index].filter(|_| stays)?;
        Some((&new.thread_locals[index], old.thread_locals[previous].address))
    };
    let kept = |variable: &'a Variable| {
        let continued = if variable.thread_local { thread_local(variable) } else { object(variable) };
        let (object, before) = continued.filter(|(object, _)| object.address == variable.address)?;
        let old = old.layouts().variables_at(variable.thread_local, before);
        // A thread-local that the linker has discarded is described as if it lay at the beginning of the block.
        let here = after.variables_at(variable.thread_local, variable.address);
        let is_same = |here: &&Variable| variable.thread_local && old.iter().any(|old| old.ty == here.ty);
        let same = here.iter().find(is_same);
        (!old.is_empty()).then(|| Kept { name: new.object_name(object), old, new: same.unwrap_or(variable) })
    };
    after.variables().iter().filter_map(kept).collect()
}

/// Types that lost a shape and gained another; one that merely came or went harms nobody.
fn changed_types(before: &Layouts, after: &Layouts) -> HashSet<TypeKey> {
    let lacks = |one: &Type, other: &Type| {
        one.shapes.iter().any(|(shape, _)| !other.shapes.iter().any(|(known, _)| known == shape))
    };
    let types = before.types.iter();
    types
        .filter(|(key, was)| after.types.get(key).is_some_and(|is| lacks(was, is) && lacks(is, was)))
        .map(|(key, _)| *key)
        .collect()
}

/// Those of the changed types that objects may have which outlive the reload, in the order of their keys.
fn harmful<'a>(
    types: &Layouts,
    changed: &HashSet<TypeKey>,
    statics: &[Kept<'_>],
    matched: impl Iterator<Item = &'a Signature>,
) -> Vec<TypeKey> {
    // What statics lead to is alive.
    let roots = statics.iter().flat_map(|kept| kept.old.iter().flat_map(|variable| &variable.edges));
    let alive = reach(types, roots.map(|edge| (edge.to, true)), Follow::Everything);
    // What functions are handed by pointer may have been made by anybody. Rust passes references to its own stack all the
    // time, so there a type must also be one that is kept on the heap somewhere.
    let (arguments, parameters): (Vec<Edge>, Vec<Edge>) =
        matched.flat_map(|signature| &signature.edges).copied().partition(|edge| edge.link == Link::Argument);
    let roots = parameters.iter();
    let handed = reach(types, roots.map(|edge| (edge.to, edge.link != Link::Value)), Follow::Everything);
    let edges = types.types.values().flat_map(|ty| &ty.edges);
    let roots = edges.filter(|edge| matches!(edge.link, Link::Heap | Link::Implementor)).map(|edge| (edge.to, true));
    let on_heap = reach(types, roots, Follow::Values);

    // Lambdas are handed about on the stack most of the time. Those that are kept are known to somebody by a pointer to what was
    // made for them.
    let erased = reach(types, arguments.iter().map(|edge| (edge.to, true)), Follow::Values);

    let lives = |key: &TypeKey| {
        let Some(ty) = types.types.get(key) else { return false };
        if ty.lambda {
            return alive.contains_key(key) || erased.contains_key(key);
        }
        ty.coroutine
            || alive.contains_key(key)
            || match handed.get(key) {
                Some(by_pointer) => (ty.rust && on_heap.contains_key(key)) || (!ty.rust && *by_pointer),
                None => false,
            }
    };
    sorted(changed.iter().copied().filter(lives).collect())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Follow {
    Everything,
    Values,
}

/// The types that the roots lead to, each with whether a pointer was on the way.
fn reach(types: &Layouts, roots: impl Iterator<Item = (TypeKey, bool)>, follow: Follow) -> HashMap<TypeKey, bool> {
    let mut reached: HashMap<TypeKey, bool> = HashMap::new();
    let mut open: Vec<(TypeKey, bool)> = roots.collect();
    while let Some((key, by_pointer)) = open.pop() {
        match reached.get(&key) {
            Some(known) if *known || !by_pointer => continue,
            _ => reached.insert(key, by_pointer),
        };
        let edges = types.types.get(&key).map_or(&[][..], |ty| &ty.edges);
        let followed = edges.iter().filter(|edge| follow == Follow::Everything || edge.link == Link::Value);
        open.extend(followed.map(|edge| (edge.to, by_pointer || edge.link != Link::Value)));
    }
    reached
}

/// In words, a line each.
fn tell_types(old: &Image, new: &Image, harmful: &[TypeKey]) -> Vec<String> {
    let only = |one: &Type, other: &Type| -> Option<Site> {
        let lost = one.shapes.iter().find(|(shape, _)| !other.shapes.iter().any(|(known, _)| known == shape));
        lost.map(|(_, site)| *site)
    };
    let sites: Vec<(Site, Site)> = harmful
        .iter()
        .filter_map(|key| {
            let (was, is) = (old.layouts().types.get(key)?, new.layouts().types.get(key)?);
            Some((only(was, is)?, only(is, was)?))
        })
        .collect();
    let (was, is): (Vec<Site>, Vec<Site>) = sites.into_iter().unzip();
    let mut told: Vec<(Cause, String)> = Vec::new();
    for (was, is) in describe(&old.bytes, &was).iter().zip(&describe(&new.bytes, &is)) {
        if let Some(difference) = difference(was, is) {
            let place = was.place.as_ref().map_or_else(String::new, |place| format!(" ({place})"));
            told.push((Cause::of(&was.name), format!("`{}`{place}: {difference}", as_written(&was.name))));
        }
    }
    // A changed type changes each generic one around it; the cause is what the programmer wrote.
    told.sort();
    if told.first().is_some_and(|(cause, _)| *cause != Cause::Library) {
        told.retain(|(cause, _)| *cause != Cause::Library);
    }
    let more = told.len().saturating_sub(Details::LIMIT);
    let mut lines: Vec<String> = told.into_iter().take(Details::LIMIT).map(|(_, line)| line).collect();
    if more > 0 {
        lines.push(format!("{more} more types in use changed their layout"));
    }
    lines
}

/// How likely a changed type is what somebody has edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    Itself,
    /// Or what its arguments are.
    Generic,
    /// The standard library's, or a tuple: changes by its arguments alone.
    Library,
}

impl Cause {
    fn of(name: &str) -> Self {
        let tuple = name.starts_with('(') && !name.starts_with("(unnamed)") && !name.starts_with(ANONYMOUS_NAMESPACE);
        if tuple || LIBRARY_ROOTS.iter().any(|root| name.starts_with(root)) {
            Cause::Library
        } else if name.contains('<') {
            Cause::Generic
        } else {
            Cause::Itself
        }
    }
}

/// In words; `None` where what exists keeps its meaning.
fn difference(was: &Layout, is: &Layout) -> Option<String> {
    let mut differences = Vec::new();
    let parts = was.parts.iter();
    for part in parts {
        let same_name: Vec<_> = is.parts.iter().filter(|other| other.label == part.label).collect();
        if same_name.contains(&part) {
            continue;
        }
        let label = &part.label;
        differences.push(match same_name.first() {
            None => format!("{label} is gone"),
            Some(other) if other.at != part.at => {
                format!("{label} moved from {} {} to {}", part.measure, part.at, other.at)
            }
            Some(other) => match trait_methods(part).zip(trait_methods(other)) {
                Some((was, is)) => format!("{label} changed: the trait has {is} methods instead of {was}"),
                None => format!("{label} changed {}", from_to(&part.ty, &other.ty)),
            },
        });
    }
    if was.enumeration && is.enumeration && differences.is_empty() && was.size == is.size {
        return None;
    }
    let known: HashSet<&str> = was.parts.iter().map(|part| part.label.as_str()).collect();
    let added = is.parts.iter().filter(|part| !known.contains(part.label.as_str()));
    differences.extend(added.map(|part| format!("{} is new", part.label)));
    if was.size != is.size {
        differences.push(format!("size changed from {} to {} bytes", was.size, is.size));
    }
    if differences.is_empty() {
        differences.push("its layout changed".to_owned());
    }
    differences.truncate(3);
    Some(differences.join(", "))
}

/// How many methods a trait object knows, where this is its field for them, which rustc gives the type `&[usize; N]`: before
/// the methods stand how to drop a value, its size and its alignment.
fn trait_methods(part: &Part) -> Option<usize> {
    let entries = part.ty.strip_prefix("&[usize; ")?.strip_suffix(']')?.parse::<usize>().ok()?;
    entries.checked_sub(3).filter(|_| part.label.starts_with("field `vtable`"))
}

/// Types as they are written, unless that is the same for both.
fn from_to(was: &str, is: &str) -> String {
    let (before, after) = (as_written(was), as_written(is));
    if before == after { format!("from `{was}` to `{is}`") } else { format!("from `{before}` to `{after}`") }
}

/// All lambdas of a function have one name, so one that has come to capture what another one does is told by who calls it.
fn tell_captures(touched: &Touched<'_>, new: &Image, after: &Layouts) -> BTreeSet<String> {
    let changed = touched.continued_signatures(new, after).filter(|(was, is, _)| was.captures != is.captures);
    let functions = changed.map(|(_, _, index)| name_of_closures(new.function_name(&new.functions[index])));
    functions.map(|function| format!("a lambda of `{function}` that may be kept captures something else")).collect()
}

/// Types of statics compared by name, as they stand: `int` against `unsigned`, another length, another struct.
fn tell_statics(old: &Image, new: &Image, statics: &[Kept<'_>], findings: &mut Findings) {
    let changed: Vec<&Kept<'_>> =
        statics.iter().filter(|kept| !kept.old.iter().any(|old| old.ty == kept.new.ty)).collect();
    let was = describe(&old.bytes, &changed.iter().map(|kept| kept.old[0].site).collect::<Vec<_>>());
    let is = describe(&new.bytes, &changed.iter().map(|kept| kept.new.site).collect::<Vec<_>>());
    for ((kept, was), is) in changed.iter().zip(&was).zip(&is) {
        let name = demangle(kept.name);
        findings.refusals.push(if was.ty.is_empty() || was.ty == is.ty {
            format!("the static `{name}` changed its type at the same size")
        } else {
            format!("the static `{name}` changed {} at the same size", from_to(&was.ty, &is.ty))
        });
    }
}

/// Entries that callers outside the library can know: exported, or stored as a pointer in its data. Python asks its tables
/// of methods anew, with what each method takes; Rust's tables of methods are asked by new code, which knows what they take.
fn exposed_functions(image: &Image) -> HashSet<Vaddr> {
    let exported = image.tables.exports.iter().copied();
    let python = &registration::tables(image) | &registration::types(image);
    let registered = |slot| image.object_at(slot).is_some_and(|object| python.contains(&object));
    let rust: HashSet<Vaddr> =
        image.layouts().functions.iter().filter(|function| function.rust).map(|function| function.address).collect();
    let stored = image.tables.relocations.iter().filter_map(|relocation| match relocation.resolves {
        Resolves::Here(address) if relocation.kind == RelocationKind::Address && !registered(relocation.slot) => {
            Some(address).filter(|address| !rust.contains(address))
        }
        _ => None,
    });
    exported.chain(stored).collect()
}

#[cfg(test)]
mod tests {
    use super::Cause;

    #[test]
    fn what_somebody_wrote_is_told_before_what_holds_it() {
        let check = |names: [&str; 4]| {
            let mut sorted = names;
            sorted.sort_by_key(|name| Cause::of(name));
            assert_eq!(sorted, names);
        };
        check(["rg::Haystack", "rg::Worker<u8>", "(rg::Haystack, u64)", "alloc::vec::Vec<rg::Haystack>"]);
        check(["(unnamed)::Item", "Holder<Item>", "std::vector<Item>", "(Item, Item)"]);
        check(["(anonymous namespace)::Item", "Holder<Item>", "std::vector<Item>", "(Item, Item)"]);
    }
}
