//! Closures and lambdas, which compilers number: one more among them, and a name that stayed means another one.
//!
//! Where some of a family came or went, those with the same content are paired; the others are new, and those before them keep
//! their old code. C++ and Rust's newer mangling scheme say in a name which closures a function is made for. The older scheme does
//! not: there what nothing but the closures' own function leads to, and what leads to a renumbered closure, is made for it.

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};

use super::{
    continuity::{lasts, partnered},
    lineage::Lineage,
};
use crate::image::{
    Content, Image, MARKS_OF_CLOSURES, Referrer, closure_family, demangle, hides_closures, is_closure,
    name_of_closures, referrers,
};

/// Mends what pairing by name says of closures. The functions that continue others and whose code, as it stands, means other
/// functions than the same code did before: by a name that is another's now.
pub fn pair_renumbered(
    lineage: &Lineage,
    parent: usize,
    image: &Image,
    partners: &mut [Option<u32>],
    warnings: &mut Vec<String>,
) -> HashSet<u32> {
    let old = lineage.placed(parent);
    if ![&*old.image, image].iter().any(|image| image.names_contain(&MARKS_OF_CLOSURES)) {
        return HashSet::new();
    }
    if lineage.families().is_any_renamed() {
        pair_by_present_name(lineage, parent, image, partners);
    }
    if !concerns_closures(lineage, parent, image, partners) {
        return HashSet::new();
    }
    let (was, is) = (Closures::of(&old.image), Closures::of(image));
    let affected = affected(lineage, parent, (&was, &is), image, partners);
    if affected.is_empty() {
        return HashSet::new();
    }
    let by_name = partners.to_vec();
    pair_by_content(&old.families, &old.image, (&was, &is), image, &affected, partners);
    let lost = lost(&old.families, (&was, &is), (&old.image, image), &affected, partners);
    warnings.extend(lost.into_iter().map(|name| {
        format!("the closures of `{name}` were renumbered; closure objects that exist already keep their old code")
    }));

    let renumbered = |function: &u32| {
        let before = by_name[*function as usize];
        before.is_some() && partners[*function as usize] != before
    };
    let mut misnamed: HashSet<u32> = is.all.iter().map(|(function, _)| *function).filter(renumbered).collect();
    let instance = |function: &u32| lineage.instance(by_name[*function as usize]?, parent).map(|was| was.function);
    let before: HashSet<u32> = misnamed.iter().filter_map(instance).collect();
    let (referrers, referrers_before) = (referrers(image), referrers(&old.image));
    let made = made_for(image, &referrers, &misnamed, &affected);
    let made_before = made_for(&old.image, &referrers_before, &before, &affected);
    for function in made {
        let name = image.function_name(&image.functions[function as usize]);
        if !hides_closures(name) || instance(&function).is_none_or(|was| made_before.contains(&was)) {
            partners[function as usize] = None;
            misnamed.insert(function);
        }
    }
    let misled = misnamed.iter().flat_map(|function| functions_among(&referrers, *function));
    misled.filter(|function| partners[*function as usize].is_some()).collect()
}

/// What a closure is called in the running file counts, and not what its first instance was called.
fn pair_by_present_name(lineage: &Lineage, parent: usize, image: &Image, partners: &mut [Option<u32>]) {
    let old = lineage.placed(parent);
    let is_closure = |image: &Image, index: u32| family_of(image, index as usize).is_some();
    let name = |image: &Image, index: u32| {
        let identity = &image.identities()[index as usize];
        (identity.key, identity.file)
    };
    let unsettled = |family: u32| !lineage.families().is_settled(family);
    // Of several with one name nothing is said here.
    let mut named: HashMap<_, Option<u32>> = HashMap::new();
    for (index, family) in (0..).zip(&old.families).filter(|(_, family)| unsettled(**family)) {
        if is_closure(&old.image, index) {
            named.entry(name(&old.image, index)).and_modify(|known| *known = None).or_insert(Some(*family));
        }
    }
    let asked = |partner: &Option<u32>| partner.is_none_or(unsettled);
    let asked: Vec<u32> = (0..).zip(&*partners).filter(|(_, partner)| asked(partner)).map(|(index, _)| index).collect();
    let mut found: HashSet<u32> = HashSet::new();
    for index in asked.into_iter().filter(|index| is_closure(image, *index)) {
        let partner = &mut partners[index as usize];
        match named.get(&name(image, index)) {
            Some(Some(family)) => {
                *partner = Some(*family);
                found.insert(*family);
            }
            Some(None) => {}
            // What it would continue runs under another name.
            None => {
                *partner = partner.filter(|family| {
                    let runs = lineage.instance(*family, parent);
                    runs.is_none_or(|runs| lineage.identity(runs).key == image.identities()[index as usize].key)
                });
            }
        }
    }
    // One that several would continue none does.
    let mut times: HashMap<u32, u32> = HashMap::new();
    for family in partners.iter().flatten().filter(|family| found.contains(family)) {
        *times.entry(*family).or_default() += 1;
    }
    let is_one_of_several = |partner: &&mut Option<u32>| partner.is_some_and(|family| times.get(&family) > Some(&1));
    partners.iter_mut().filter(is_one_of_several).for_each(|partner| *partner = None);
}

/// Whether any closure came, went or changed. Most edits are to others.
fn concerns_closures(lineage: &Lineage, parent: usize, image: &Image, partners: &[Option<u32>]) -> bool {
    let old = lineage.placed(parent);
    let partnered = partnered(lineage, partners);
    let is_closure = |image: &Image, index: usize| family_of(image, index).is_some();
    let differs = |index: &usize| {
        let same = |family| lineage.content(lineage.newest(family)) == image.contents[*index];
        !partners[*index].is_some_and(same)
    };
    (0..image.functions.len()).filter(differs).any(|index| is_closure(image, index))
        || (0..old.image.functions.len())
            .filter(|index| !partnered[old.families[*index] as usize])
            .any(|index| is_closure(&old.image, index))
}

/// The family of a closure, or of what is made for one, that can continue another.
fn family_of(image: &Image, index: usize) -> Option<String> {
    let function = &image.functions[index];
    if lasts(function) { closure_family(image.function_name(function)) } else { None }
}

/// The functions of a file that are closures or made for such, each with its family.
struct Closures {
    all: Vec<(u32, String)>,
}

impl Closures {
    fn of(image: &Image) -> Closures {
        let family = |index: usize| Some((index as u32, family_of(image, index)?));
        Closures { all: (0..image.functions.len()).filter_map(family).collect() }
    }
}

/// The families of which some came or went, or changed into another one of theirs.
fn affected(
    lineage: &Lineage,
    parent: usize,
    (was, is): (&Closures, &Closures),
    image: &Image,
    partners: &[Option<u32>],
) -> HashSet<String> {
    let old = lineage.placed(parent);
    let partnered = partnered(lineage, partners);
    let gone = was.all.iter().filter(|(function, _)| !partnered[old.families[*function as usize] as usize]);
    let came = is.all.iter().filter(|(function, _)| partners[*function as usize].is_none());
    let mut affected: HashSet<String> = gone.chain(came).map(|(_, of)| of.clone()).collect();
    let contents: HashSet<(&str, Content)> = (was.all.iter())
        .filter_map(|(function, of)| Some((of.as_str(), old.image.contents[*function as usize]?)))
        .collect();
    let changed = is.all.iter().filter(|(function, of)| {
        let content = image.contents[*function as usize];
        let was = partners[*function as usize].map(|family| lineage.content(lineage.newest(family)));
        was.is_some_and(|was| was != content) && content.is_some_and(|content| contents.contains(&(of, content)))
    });
    affected.extend(changed.map(|(_, of)| of.clone()));
    affected
}

/// Those of the affected families, where only one before and one now has the content: of several the one that has kept its name.
fn pair_by_content(
    families: &[u32],
    old: &Image,
    (was, is): (&Closures, &Closures),
    image: &Image,
    affected: &HashSet<String>,
    partners: &mut [Option<u32>],
) {
    /// The families of those before, and those now.
    type Alike = (Vec<u32>, Vec<u32>);
    let mut by_content: HashMap<(&str, Content), Alike> = HashMap::new();
    for (function, of) in was.all.iter().filter(|(_, of)| affected.contains(of)) {
        if let Some(content) = old.contents[*function as usize] {
            by_content.entry((of, content)).or_default().0.push(families[*function as usize]);
        }
    }
    for (function, of) in is.all.iter().filter(|(_, of)| affected.contains(of)) {
        if let Some(content) = image.contents[*function as usize] {
            by_content.entry((of, content)).or_default().1.push(*function);
        }
    }
    for (function, of) in is.all.iter().filter(|(_, of)| affected.contains(of)) {
        let same = image.contents[*function as usize].and_then(|content| by_content.get(&(of.as_str(), content)));
        let partner = &mut partners[*function as usize];
        *partner = match same {
            Some((families, functions)) => match (&families[..], &functions[..]) {
                ([family], [_]) => Some(*family),
                _ => partner.filter(|family| families.contains(family)),
            },
            None => None,
        };
    }
}

/// Whose closures, as a programmer calls the function, nobody continues although there are new ones that may. Of what was made for
/// a closure nothing is told beside the closure itself.
fn lost(
    families: &[u32],
    (was, is): (&Closures, &Closures),
    (old, image): (&Image, &Image),
    affected: &HashSet<String>,
    partners: &[Option<u32>],
) -> Vec<String> {
    fn name<'a>(image: &'a Image, function: &u32) -> &'a str {
        image.function_name(&image.functions[*function as usize])
    }
    let inlined = !was.all.iter().any(|(function, _)| is_closure(name(old, function)));
    let told = |name: &str| inlined || is_closure(name);
    let continued: HashSet<u32> = is.all.iter().filter_map(|(function, _)| partners[*function as usize]).collect();
    let lost = was.all.iter().filter(|(function, of)| {
        affected.contains(of) && !continued.contains(&families[*function as usize]) && told(name(old, function))
    });
    let lost: HashSet<&String> = lost.map(|(_, of)| of).collect();
    let new = is.all.iter().filter(|(function, of)| partners[*function as usize].is_none() && lost.contains(of));
    let mut names: Vec<String> = new.map(|(function, _)| name_of_closures(name(image, function))).collect();
    names.sort();
    names.dedup();
    names
}

/// The functions that lead to one of these closures and were made for such: as their names say, or, where those do not, since
/// nothing else leads to them than what was, closures of the family and the functions that these stand in.
fn made_for(
    image: &Image,
    referrers: &HashMap<u32, Vec<Referrer>>,
    closures: &HashSet<u32>,
    affected: &HashSet<String>,
) -> HashSet<u32> {
    let name = |function: u32| image.function_name(&image.functions[function as usize]);
    let parents: HashSet<String> = closures.iter().map(|function| name_of_closures(name(*function))).collect();
    let is_origin = |function: u32| {
        closure_family(name(function)).is_some_and(|of| affected.contains(&of))
            || affected.contains(&demangle(name(function)))
    };
    let may_be_made = |function: u32| {
        let name = name(function);
        let named = || closure_family(name).is_some() && parents.contains(&name_of_closures(name));
        if hides_closures(name) { !is_origin(function) } else { named() }
    };
    let mut made: HashSet<u32> = HashSet::new();
    let mut open: Vec<u32> = closures.iter().copied().collect();
    while let Some(function) = open.pop() {
        for referrer in functions_among(referrers, function) {
            if !closures.contains(&referrer) && !made.contains(&referrer) && may_be_made(referrer) {
                made.insert(referrer);
                open.push(referrer);
            }
        }
    }
    loop {
        let known = |referrer: &Referrer| match referrer {
            Referrer::Function(function) => made.contains(function) || is_origin(*function),
            Referrer::Static => false,
        };
        // Others may lead to what nothing here does.
        let is_private = |of: &u32| {
            let exported = image.tables.exports.contains(&image.functions[*of as usize].address);
            !exported && referrers.get(of).is_some_and(|all| all.iter().all(known))
        };
        let others: Vec<u32> = made.iter().copied().filter(|of| hides_closures(name(*of)) && !is_private(of)).collect();
        if others.is_empty() {
            return made;
        }
        others.iter().for_each(|function| {
            made.remove(function);
        });
    }
}

/// The functions that lead to this one.
fn functions_among(referrers: &HashMap<u32, Vec<Referrer>>, function: u32) -> impl Iterator<Item = u32> {
    referrers.get(&function).into_iter().flatten().filter_map(|referrer| match referrer {
        Referrer::Function(function) => Some(*function),
        Referrer::Static => None,
    })
}
