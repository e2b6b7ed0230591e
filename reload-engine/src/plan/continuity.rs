//! Which function of the new file continues which family: by name, then by what tells namesakes apart.
//!
//! How namesakes are told apart is [`super::matching`]'s business; whether a function changed is asked afterwards.

use foldhash::{HashMap, HashMapExt as _, HashSet};

use super::{
    closures,
    lineage::Lineage,
    matching::{Traits, may_be_same, pair},
};
use crate::image::{Content, Function, Identity, Image, NOBODY, NameKey, are_same_symbols, callers_of_each, demangle};

/// By function of the new file: the family it continues. And the functions whose code means other functions than the same code
/// did before.
pub fn match_functions(
    lineage: &Lineage,
    parent: usize,
    image: &Image,
    warnings: &mut Vec<String>,
) -> (Vec<Option<u32>>, HashSet<u32>) {
    let (mut partners, others) = match_same_symbols(lineage, parent, image);
    if !others.is_empty() {
        match_by_name(lineage, parent, image, others, &mut partners, warnings);
    }
    let misled = closures::pair_renumbered(lineage, parent, image, &mut partners, warnings);
    (partners, misled)
}

/// Whether a function can continue another one.
pub fn lasts(function: &Function) -> bool {
    !function.auxiliary && !function.indirect
}

/// Where the two files have the same symbols, each function whose name is the only one of its kind continues the one that it was
/// in the file before. The others that can continue one are told too.
fn match_same_symbols(lineage: &Lineage, parent: usize, image: &Image) -> (Vec<Option<u32>>, Vec<u32>) {
    let old = lineage.placed(parent);
    let lasting = (0..).zip(&image.functions).filter(|(_, function)| lasts(function)).map(|(index, _)| index);
    let mut partners = vec![None; image.functions.len()];
    if !are_same_symbols(&old.image, image) {
        return (partners, lasting.collect());
    }
    let continues = |family: u32| lineage.families().is_settled(family) && lineage.newest(family).generation == parent;
    let mut others = Vec::new();
    for index in lasting {
        let family = old.families[index as usize];
        if continues(family) {
            partners[index as usize] = Some(family);
        } else {
            others.push(index);
        }
    }
    (partners, others)
}

/// Finds the families of these functions by what they are called.
fn match_by_name(
    lineage: &Lineage,
    parent: usize,
    image: &Image,
    functions: Vec<u32>,
    partners: &mut [Option<u32>],
    warnings: &mut Vec<String>,
) {
    // For each family the last new function of its name, which points at the one before it of that name. Tables full of that number
    // have been written to: of one full of zeroes the kernel gives a page to whoever reads it first, and another one to whoever
    // then writes.
    let mut last = vec![NOBODY; lineage.families().count()];
    let mut before = vec![NOBODY; image.functions.len()];
    let mut known: Vec<(u32, u32)> = Vec::with_capacity(functions.len());
    for index in functions {
        let guess = known.last().map_or(0, |(_, family)| family + 1);
        if let Some(family) = lineage.families().newest_of(image.identities()[index as usize].key, guess) {
            before[index as usize] = std::mem::replace(&mut last[family as usize], index);
            known.push((index, family));
        }
    }
    let traits = |identity: &Identity, content: Option<Content>| Traits {
        file: identity.file,
        version: identity.version,
        content,
        ..Traits::default()
    };
    let was = |family: u32| traits(lineage.identity(lineage.newest(family)), lineage.content(lineage.newest(family)));
    let is = |index: usize| traits(&image.identities()[index], image.contents[index]);
    let mut elsewhere = Vec::new();
    for (index, family) in known {
        // Each name once, at its last function.
        if last[family as usize] != index {
            continue;
        }
        let newest = |family: u32| lineage.function(lineage.newest(family));
        // What the running file calls so comes before what an older one did.
        let runs = |family: &u32| lineage.newest(*family).generation == parent;
        let is_running = lineage.families().namesakes(family).any(|family| runs(&family));
        let mut namesakes = lineage
            .families()
            .namesakes(family)
            .filter(|family| lasts(newest(*family)) && (!is_running || runs(family)));
        let Some(family) = namesakes.next() else { continue };
        let more = namesakes.next();
        // Nearly all names are the only ones of their kind.
        if more.is_none() && before[index as usize] == NOBODY {
            if may_be_same(&was(family), &is(index as usize)) {
                partners[index as usize] = Some(family);
            } else {
                elsewhere.push((index, family));
            }
            continue;
        }
        let mut families: Vec<u32> = [family].into_iter().chain(more).chain(namesakes).collect();
        families.reverse();
        let one_before = |index: &usize| Some(before[*index] as usize).filter(|_| before[*index] != NOBODY);
        let mut news: Vec<usize> = std::iter::successors(Some(index as usize), one_before).collect();
        news.reverse();
        let old: Vec<Traits> = families.iter().map(|family| was(*family)).collect();
        let new: Vec<Traits> = news.iter().map(|index| is(*index)).collect();
        let pairing = pair(&old, &new);
        if pairing.ambiguous {
            let name = demangle(image.function_name(&image.functions[news[0]]));
            warnings.push(format!(
                "several functions are called `{name}`; those that nothing tells apart keep their old code"
            ));
        }
        for (index, partner) in news.iter().zip(pairing.partners) {
            partners[*index] = partner.map(|partner| families[partner]);
        }
    }
    pair_moved(lineage, image, &elsewhere, partners);
}

/// Of new functions and the only family of their name, which is of another source file: those that the same functions refer to
/// are the same. Their file was renamed, or they went to another one.
fn pair_moved(lineage: &Lineage, image: &Image, candidates: &[(u32, u32)], partners: &mut [Option<u32>]) {
    if candidates.is_empty() {
        return;
    }
    let users = |image: &Image, of: HashSet<u32>| -> HashMap<u32, HashSet<NameKey>> {
        let keys = |users: Vec<u32>| users.into_iter().map(|user| image.identities()[user as usize].key).collect();
        callers_of_each(image, &of).into_iter().map(|(function, users)| (function, keys(users))).collect()
    };
    let mut by_generation: HashMap<usize, HashSet<u32>> = HashMap::new();
    for instance in candidates.iter().map(|(_, family)| lineage.newest(*family)) {
        by_generation.entry(instance.generation).or_default().insert(instance.function);
    }
    let old_users: HashMap<usize, _> = by_generation
        .into_iter()
        .map(|(generation, of)| (generation, users(&lineage.placed(generation).image, of)))
        .collect();
    let new_users = users(image, candidates.iter().map(|(function, _)| *function).collect());
    for (function, family) in candidates {
        let newest = lineage.newest(*family);
        let old = old_users.get(&newest.generation).and_then(|users| users.get(&newest.function));
        if let (Some(old), Some(new)) = (old, new_users.get(function))
            && !old.is_disjoint(new)
        {
            partners[*function as usize] = Some(*family);
        }
    }
}

/// By family: whether the new file continues it.
pub fn partnered(lineage: &Lineage, partners: &[Option<u32>]) -> Vec<bool> {
    let mut partnered = vec![false; lineage.families().count()];
    partners.iter().flatten().for_each(|family| partnered[*family as usize] = true);
    partnered
}
