//! Types whose layout changed while objects of them may be alive: new code would read those wrongly, without a crash.
//!
//! Judges two files by their debugging information. It cannot see through `void *`, byte buffers or a host's own copies, and
//! does not judge what a field means: the same layout with another meaning passes.

use std::collections::{HashMap, HashSet};

use super::{
    homes::{PlannedHomes, TlsHome},
    registration,
};
use crate::{
    image::{
        Image, NameKey, RelocationKind, Resolves, demangle,
        layout::{Layout, Layouts, Link, Signature, Site, Type, TypeKey, Variable, describe},
    },
    model::{Details, Vaddr},
};

/// What the types say against a reload.
#[derive(Debug, Default)]
pub struct Findings {
    pub refusals: Vec<String>,
    pub warnings: Vec<String>,
}

/// Compares the running file with the new one; `matched` are the indices, in the old and the new file, of functions that
/// continue each other.
pub fn check(old: &Image, new: &Image, matched: &[(usize, usize)], homes: &PlannedHomes) -> Findings {
    let mut findings = Findings::default();
    for image in [old, new] {
        if !image.layouts().is_known() {
            let file = image.path.file_name().unwrap_or_default().to_string_lossy();
            findings
                .warnings
                .push(format!("layouts unchecked: {file} has no type information; build with -g (Rust: debug = 2)"));
        }
    }
    if !findings.warnings.is_empty() {
        return findings;
    }
    let (before, after) = (old.layouts(), new.layouts());
    let statics = kept_statics(old, new, homes);
    let called: Vec<(&Signature, Option<&Signature>, usize)> = {
        let partners: HashMap<Vaddr, usize> =
            matched.iter().map(|(was, is)| (old.functions[*was].address, *is)).collect();
        let is: HashMap<Vaddr, &Signature> = after.functions.iter().map(|it| (it.address, it)).collect();
        let signatures = before.functions.iter();
        signatures
            .filter_map(|it| {
                let index = *partners.get(&it.address)?;
                Some((it, is.get(&new.functions[index].address).copied(), index))
            })
            .collect()
    };

    let changed = changed_types(before, after);
    if !changed.is_empty() {
        let harmful = harmful(before, &changed, &statics, called.iter().map(|(signature, ..)| *signature));
        tell_types(old, new, &harmful, &mut findings);
    }
    tell_statics(old, new, &statics, &mut findings);
    let exported = exposed_functions(old);
    for (was, is, index) in called {
        let Some(is) = is.filter(|_| !was.rust && exported.contains(&was.address)) else { continue };
        if was.parameters == is.parameters {
            continue;
        }
        let name = demangle(new.function_name(&new.functions[index]));
        if is.parameters.starts_with(&was.parameters) {
            findings.warnings.push(format!(
                "`{name}` takes more parameters than it did: callers outside the library do not pass them"
            ));
        } else {
            findings.refusals.push(format!(
                "`{name}` changed its parameters: callers outside the library, and pointers to it, pass the old ones"
            ));
        }
    }
    findings
}

/// A static that stays: what it is in both files.
struct Kept<'a> {
    name: String,
    old: Vec<&'a Variable>,
    new: &'a Variable,
}

fn kept_statics<'a>(old: &'a Image, new: &'a Image, homes: &PlannedHomes) -> Vec<Kept<'a>> {
    let kept: HashSet<usize> = homes.kept.iter().copied().collect();
    let object_of = |image: &'a Image, variable: &Variable| {
        if variable.thread_local {
            image.thread_local_at(variable.address.0).map(|index| (index, &image.thread_locals[index]))
        } else {
            image.object_at(variable.address).map(|index| (index, &image.objects[index]))
        }
        .filter(|(_, object)| object.address == variable.address)
    };
    let mut by_name: HashMap<(NameKey, bool), Vec<&Variable>> = HashMap::new();
    for variable in &old.layouts().variables {
        if let Some((_, object)) = object_of(old, variable) {
            by_name.entry((object.key, variable.thread_local)).or_default().push(variable);
        }
    }
    let variables = new.layouts().variables.iter();
    variables
        .filter_map(|variable| {
            let (index, object) = object_of(new, variable)?;
            let stays =
                if variable.thread_local { homes.thread_locals[index] != TlsHome::Own } else { kept.contains(&index) };
            let old = by_name.get(&(object.key, variable.thread_local)).filter(|_| stays)?;
            Some(Kept { name: demangle(new.object_name(object)), old: old.clone(), new: variable })
        })
        .collect()
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
    let roots = matched.flat_map(|signature| &signature.edges);
    let handed = reach(types, roots.map(|edge| (edge.to, edge.link != Link::Value)), Follow::Everything);
    let edges = types.types.values().flat_map(|ty| &ty.edges);
    let roots = edges.filter(|edge| matches!(edge.link, Link::Heap | Link::Implementor)).map(|edge| (edge.to, true));
    let on_heap = reach(types, roots, Follow::Values);

    let lives = |key: &TypeKey| {
        let Some(ty) = types.types.get(key) else { return false };
        ty.coroutine
            || alive.contains_key(key)
            || match handed.get(key) {
                Some(by_pointer) => (ty.rust && on_heap.contains_key(key)) || (!ty.rust && *by_pointer),
                None => false,
            }
    };
    let mut harmful: Vec<TypeKey> = changed.iter().copied().filter(lives).collect();
    harmful.sort_unstable();
    harmful
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

fn tell_types(old: &Image, new: &Image, harmful: &[TypeKey], findings: &mut Findings) {
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
    let mut told: Vec<(bool, String)> = Vec::new();
    for (was, is) in describe(&old.bytes, &was).iter().zip(&describe(&new.bytes, &is)) {
        if let Some(difference) = difference(was, is) {
            let place = was.place.as_ref().map_or_else(String::new, |place| format!(" ({place})"));
            let library = ["core::", "alloc::", "std::", "hashbrown::"].iter().any(|root| was.name.starts_with(root));
            told.push((library, format!("`{}`{place}: {difference}", was.name)));
        }
    }
    // A changed type changes each generic one around it; the cause is what the programmer wrote.
    told.sort();
    if told.first().is_some_and(|(library, _)| !library) {
        told.retain(|(library, _)| !library);
    }
    let more = told.len().saturating_sub(Details::LIMIT);
    findings.refusals.extend(told.into_iter().take(Details::LIMIT).map(|(_, line)| line));
    if more > 0 {
        findings.refusals.push(format!("{more} more types in use changed their layout"));
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
            Some(other) => format!("{label} changed from `{}` to `{}`", part.ty, other.ty),
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

/// Types of statics compared by name, as they stand: `int` against `unsigned`, another length, another struct.
fn tell_statics(old: &Image, new: &Image, statics: &[Kept<'_>], findings: &mut Findings) {
    let changed = statics.iter().filter(|kept| !kept.old.iter().any(|old| old.ty == kept.new.ty));
    let changed: Vec<&Kept<'_>> = changed.filter(|kept| !kept.old.is_empty()).collect();
    let was = describe(&old.bytes, &changed.iter().map(|kept| kept.old[0].site).collect::<Vec<_>>());
    let is = describe(&new.bytes, &changed.iter().map(|kept| kept.new.site).collect::<Vec<_>>());
    for ((kept, was), is) in changed.iter().zip(&was).zip(&is) {
        let name = &kept.name;
        findings.refusals.push(if was.ty.is_empty() || was.ty == is.ty {
            format!("the static `{name}` changed its type at the same size")
        } else {
            format!("the static `{name}` changed from `{}` to `{}` at the same size", was.ty, is.ty)
        });
    }
}

/// Entries that callers outside the library can know: exported, or stored as a pointer in its data. Python asks its tables
/// of methods anew, with what each method takes.
fn exposed_functions(image: &Image) -> HashSet<Vaddr> {
    let exported = image.tables.symbols.iter().filter(|symbol| !symbol.local).map(|symbol| Vaddr(symbol.address));
    let python = &registration::tables(image) | &registration::types(image);
    let registered = |slot| image.object_at(slot).is_some_and(|object| python.contains(&object));
    let stored = image.tables.relocations.iter().filter_map(|relocation| match relocation.resolves {
        Resolves::Here(address) if relocation.kind == RelocationKind::Address && !registered(relocation.slot) => {
            Some(address)
        }
        _ => None,
    });
    exported.chain(stored).collect()
}
