//! Which symbol of the new file is which of the old ones.
//!
//! Names come first. Where several symbols share one (C statics of different files, function-local statics), the source
//! file and what refers to them decide; what stays ambiguous is not guessed.

use foldhash::HashMap;
use smallvec::{SmallVec, smallvec};
use twox_hash::XxHash3_128;

use crate::image::{Content, NameKey, TextKey};

/// What is known of a symbol beyond its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Source file of a local symbol.
    pub file: Option<TextKey>,
    /// The version it is exported under: of one name there can be several.
    pub version: Option<TextKey>,
    /// Content, for functions; `None` for statics, whose content is state.
    pub content: Option<Content>,
    /// The functions that refer to it, and the places in data that point to it, ascending, for statics.
    pub users: Vec<NameKey>,
    /// Those of them that mean nothing else: not the end of what lies right before it.
    pub sure_users: Vec<NameKey>,
    /// Where code first refers to it, for statics: earlier means before.
    pub first_use: u64,
}

/// The old partner of each new symbol of one name.
#[derive(Debug, PartialEq, Eq)]
pub struct Pairing {
    /// Parallel to the new symbols: index into the old ones.
    pub partners: SmallVec<[Option<usize>; 1]>,
    /// Some could be partners of several.
    pub ambiguous: bool,
    /// Some were told apart by nothing but the order in which the same functions use them.
    pub by_order: bool,
}

/// Something that an old and a new symbol may share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Common {
    file: Option<TextKey>,
    what: u128,
    /// Of the old one's users only the sure ones count.
    sure: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Old,
    New,
}

/// Hands over what a symbol has, of which one thing in common says that it may be the same as another.
type Rule = fn(&Traits, Side, &mut dyn FnMut(Common));

/// From the most telling to the least.
const RULES: [Rule; 9] = [
    |it, _, has| it.version.into_iter().for_each(|version| has(common(Some(version), 0))),
    |it, _, has| it.content.into_iter().for_each(|content| has(common(it.file, content.hash()))),
    |it, _, has| whole(&it.sure_users).into_iter().for_each(|users| has(common(it.file, users))),
    |it, side, has| {
        let sure = |sure| move |user: &NameKey| Common { sure, ..common(it.file, user.0) };
        it.sure_users.iter().map(sure(side == Side::Old)).for_each(&mut *has);
        it.users.iter().map(sure(side == Side::New)).for_each(has);
    },
    |it, _, has| whole(&it.users).into_iter().for_each(|users| has(common(it.file, users))),
    |it, _, has| it.users.iter().for_each(|user| has(common(it.file, user.0))),
    |it, _, has| it.users.iter().for_each(|user| has(common(None, user.0))),
    |it, _, has| has(common(it.file, 0)),
    |_, _, has| has(common(None, 0)),
];

fn common(file: Option<TextKey>, what: u128) -> Common {
    Common { file, what, sure: false }
}

/// Of all of them as one, if there are any.
fn whole(users: &[NameKey]) -> Option<u128> {
    let bytes: Vec<u8> = users.iter().flat_map(|user| user.0.to_ne_bytes()).collect();
    (!users.is_empty()).then(|| XxHash3_128::oneshot(&bytes))
}

/// Pairs the symbols of one name. Takes time by what is known of them, however many they are.
pub fn pair(old: &[Traits], new: &[Traits]) -> Pairing {
    if let ([old], [new]) = (old, new) {
        let partners = smallvec![may_be_same(old, new).then_some(0)];
        return Pairing { partners, ambiguous: false, by_order: false };
    }
    let mut partners: SmallVec<[Option<usize>; 1]> = smallvec![None; new.len()];
    let mut taken = vec![false; old.len()];
    for rule in RULES {
        let olds = of_each(old, |index| !taken[index], rule, Side::Old);
        let news = of_each(new, |index| partners[index].is_none(), rule, Side::New);
        // What is taken shares nothing with anybody else, so that nothing more becomes unique by it.
        for (was, is) in unique(&olds, &news) {
            partners[is] = Some(was);
            taken[was] = true;
        }
    }
    pair_twins(old, new, &mut partners, &mut taken);
    let by_order = pair_siblings(old, new, &mut partners, &mut taken);
    let left = partners.iter().filter(|partner| partner.is_none()).count();
    let ambiguous = left > 0 && taken.iter().any(|taken| !taken);
    Pairing { partners, ambiguous, by_order }
}

/// What each of the symbols that are left has, ascending, with its index.
fn of_each(symbols: &[Traits], is_left: impl Fn(usize) -> bool, rule: Rule, side: Side) -> Vec<(Common, usize)> {
    let mut found = Vec::new();
    for (index, symbol) in symbols.iter().enumerate().filter(|(index, _)| is_left(*index)) {
        rule(symbol, side, &mut |common| found.push((common, index)));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// With how many of the other side one shares something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Nobody,
    One(usize),
    Several,
}

impl Sharing {
    fn add<T>(&mut self, others: &[(T, usize)]) {
        *self = match (*self, others) {
            (Sharing::Nobody, [(_, one)]) => Sharing::One(*one),
            (Sharing::One(known), [(_, one)]) if known == *one => Sharing::One(known),
            _ => Sharing::Several,
        }
    }
}

/// An old one and a new one each that share something with each other and with nobody else, by index; what they have ascends, and
/// nothing is there twice.
pub fn unique<T: Copy + Ord>(old: &[(T, usize)], new: &[(T, usize)]) -> Vec<(usize, usize)> {
    let of_all = |all: &[(T, usize)]| vec![Sharing::Nobody; all.iter().map(|(_, index)| index + 1).max().unwrap_or(0)];
    let (mut of_old, mut of_new) = (of_all(old), of_all(new));
    let mut rest = new;
    for these in old.chunk_by(|one, other| one.0 == other.0) {
        let common = these[0].0;
        rest = &rest[rest.partition_point(|(other, _)| *other < common)..];
        let those = &rest[..rest.partition_point(|(other, _)| *other == common)];
        if !those.is_empty() {
            these.iter().for_each(|(_, index)| of_old[*index].add(those));
            those.iter().for_each(|(_, index)| of_new[*index].add(these));
        }
    }
    let is_mutual = |(was, sharing): (usize, &Sharing)| match sharing {
        Sharing::One(is) if of_new[*is] == Sharing::One(was) => Some((was, *is)),
        _ => None,
    };
    of_old.iter().enumerate().filter_map(is_mutual).collect()
}

/// Source file and all users.
type Family = (Option<TextKey>, u128);

/// Statics of one name in one function (a macro's `static int done`), as many as before: the first stays the first.
fn pair_siblings(old: &[Traits], new: &[Traits], partners: &mut [Option<usize>], taken: &mut [bool]) -> bool {
    let mut siblings: HashMap<Family, (Vec<usize>, Vec<usize>)> = HashMap::default();
    let family = |symbol: &Traits| Some((symbol.file, whole(&symbol.users)?));
    for (index, symbol) in new.iter().enumerate().filter(|(index, _)| partners[*index].is_none()) {
        if let Some(family) = family(symbol) {
            siblings.entry(family).or_default().1.push(index);
        }
    }
    for (index, symbol) in old.iter().enumerate().filter(|(index, _)| !taken[*index]) {
        if let Some((olds, _)) = family(symbol).and_then(|family| siblings.get_mut(&family)) {
            olds.push(index);
        }
    }
    let mut found = false;
    for (mut olds, mut news) in siblings.into_values().filter(|(olds, news)| olds.len() == news.len()) {
        olds.sort_by_key(|index| old[*index].first_use);
        news.sort_by_key(|index| new[*index].first_use);
        for (new, old) in news.into_iter().zip(olds) {
            partners[new] = Some(old);
            taken[old] = true;
        }
        found = true;
    }
    found
}

/// Copies of one function (Rust makes one per codegen unit) are interchangeable: any of the old for any of the new.
fn pair_twins(old: &[Traits], new: &[Traits], partners: &mut [Option<usize>], taken: &mut [bool]) {
    let alike = |contents: Vec<Option<Content>>| {
        contents.first().is_some_and(Option::is_some) && contents.iter().all(|content| *content == contents[0])
    };
    let olds: Vec<usize> = (0..old.len()).filter(|index| !taken[*index]).collect();
    let news: Vec<usize> = (0..new.len()).filter(|index| partners[*index].is_none()).collect();
    if alike(olds.iter().map(|index| old[*index].content).collect())
        && alike(news.iter().map(|index| new[*index].content).collect())
    {
        for (new, old) in news.into_iter().zip(olds) {
            partners[new] = Some(old);
            taken[old] = true;
        }
    }
}

/// Whether the only two of a name are the same. Of another source file, and used by or made of other code, they are not: one
/// was removed and the other added.
pub fn may_be_same(old: &Traits, new: &Traits) -> bool {
    // Nearly all are.
    if old.file == new.file {
        return true;
    }
    let same_code = old.content.is_some() && old.content == new.content;
    // One among others may only walk through a neighbour, to an end that is where this one starts.
    let shared = old.users.iter().filter(|user| new.users.binary_search(user).is_ok()).count();
    let fewer = old.users.len().min(new.users.len());
    // What became visible to other files, or no longer is, has lost or gained the name of its own.
    let file_unknown = old.file.is_none() || new.file.is_none();
    let same_users = shared * 2 > fewer || (file_unknown && shared > 0 && shared * 2 == fewer);
    same_code || same_users
}

/// Whether the two have one in common; `b` ascends.
pub fn overlap(a: &[NameKey], b: &[NameKey]) -> bool {
    a.iter().any(|key| b.binary_search(key).is_ok())
}

#[cfg(test)]
mod tests {
    use super::{Traits, overlap, pair};
    use crate::image::{Content, NameKey, TextKey};

    fn symbol(file: &str, users: &[u128]) -> Traits {
        let users: Vec<NameKey> = users.iter().map(|user| NameKey(*user)).collect();
        Traits { file: Some(TextKey::of(file.as_bytes())), sure_users: users.clone(), users, ..Traits::default() }
    }

    fn check(old: &[Traits], new: &[Traits], partners: &[Option<usize>], ambiguous: bool) {
        let found = pair(old, new);
        assert_eq!((&found.partners[..], found.ambiguous), (partners, ambiguous));
    }

    #[test]
    fn a_renamed_source_file_does_not_separate_a_single_pair() {
        check(&[symbol("1", &[10, 11])], &[symbol("2", &[11])], &[Some(0)], false);
    }

    #[test]
    fn a_namesake_in_another_file_is_another() {
        check(&[symbol("1", &[10])], &[symbol("2", &[20])], &[None], false);
        check(&[symbol("1", &[10, 11, 50])], &[symbol("2", &[20, 21, 50])], &[None], false);
    }

    #[test]
    fn what_becomes_visible_needs_fewer_users_to_stay_the_same() {
        let visible = |users: &[u128]| Traits { file: None, ..symbol("0", users) };
        check(&[symbol("1", &[10, 11, 12, 13])], &[visible(&[10, 11, 20, 21])], &[Some(0)], false);
        check(&[symbol("1", &[10, 11, 12, 13])], &[symbol("2", &[10, 11, 20, 21])], &[None], false);
        check(&[symbol("1", &[10, 11, 12])], &[visible(&[10, 20, 21])], &[None], false);
    }

    #[test]
    fn same_names_of_different_files_keep_apart() {
        let (a, b) = (symbol("1", &[]), symbol("2", &[]));
        check(&[a.clone(), b.clone()], &[b, a], &[Some(1), Some(0)], false);
    }

    #[test]
    fn function_local_statics_follow_the_functions_that_use_them() {
        let old = [symbol("1", &[10]), symbol("1", &[30])];
        let new = [symbol("1", &[10]), symbol("1", &[20]), symbol("1", &[30])];
        check(&old, &new, &[Some(0), None, Some(1)], false);
    }

    #[test]
    fn who_may_mean_the_end_of_a_neighbour_is_no_evidence() {
        // Three functions walk through what ends before the one, then before the other.
        let behind = |users: &[u128]| Traits { sure_users: Vec::new(), ..symbol("1", users) };
        let old = [behind(&[10, 20, 30]), symbol("1", &[20])];
        let new = [symbol("1", &[10]), behind(&[10, 20, 30])];
        check(&old, &new, &[Some(0), Some(1)], false);
    }

    #[test]
    fn copies_of_one_function_are_interchangeable() {
        let copy = |content| Traits { content: Some(Content::of(content)), ..Traits::default() };
        check(&[copy(1), copy(1)], &[copy(2), copy(2)], &[Some(0), Some(1)], false);
    }

    #[test]
    fn statics_of_one_function_keep_their_order() {
        let at = |first_use| Traits { first_use, ..symbol("1", &[10]) };
        check(&[at(5), at(3)], &[at(40), at(70)], &[Some(1), Some(0)], false);
        // One more, or one less: nobody can tell which.
        check(&[at(5), at(3)], &[at(40), at(50), at(70)], &[None, None, None], true);
        check(&[at(5), at(3)], &[at(40)], &[None], true);
    }

    /// Each rule by itself, and every two of them: what was compared one by one until there were too many.
    #[test]
    fn the_same_as_if_all_were_compared_with_all() {
        let mut random = 7_u64;
        let mut below = |limit: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % limit
        };
        let mut symbol = || {
            let mut users: Vec<NameKey> = (0..below(4)).map(|_| NameKey(below(5).into())).collect();
            users.sort_unstable();
            users.dedup();
            let sure_users = users.iter().copied().filter(|_| below(2) == 0).collect();
            let text = |number: u64| (number > 0).then(|| TextKey::of(&[number as u8]));
            let content = below(3);
            let content = (content > 0).then(|| Content::of(u128::from(content) << 1));
            Traits { file: text(below(3)), version: text(below(4)), content, users, sure_users, first_use: below(9) }
        };
        for _ in 0..3_000 {
            let (old, new): (Vec<_>, Vec<_>) = (0..4).map(|_| (symbol(), symbol())).unzip();
            let found = pair(&old, &new);
            let mut partners: Vec<Option<usize>> = vec![None; new.len()];
            for rule in one_by_one() {
                let left = |partners: &[Option<usize>]| -> Vec<(usize, usize)> {
                    let olds = (0..old.len()).filter(|old| !partners.contains(&Some(*old)));
                    let pairs = olds.flat_map(|old| (0..new.len()).map(move |new| (old, new)));
                    pairs.filter(|(was, is)| partners[*is].is_none() && rule(&old[*was], &new[*is])).collect()
                };
                let fits = left(&partners);
                let alone =
                    |(was, is): &(usize, usize)| fits.iter().filter(|(old, new)| old == was || new == is).count() == 1;
                fits.iter().filter(|pair| alone(pair)).for_each(|(was, is)| partners[*is] = Some(*was));
            }
            // Twins and siblings come after what is unique.
            let unique = partners.iter().zip(&found.partners).filter(|(one, _)| one.is_some());
            assert!(unique.clone().all(|(one, other)| one == other), "{old:?} {new:?} {partners:?} {found:?}");
        }
    }

    fn one_by_one() -> [fn(&Traits, &Traits) -> bool; 9] {
        [
            |a, b| a.version.is_some() && a.version == b.version,
            |a, b| a.file == b.file && a.content.is_some() && a.content == b.content,
            |a, b| a.file == b.file && !a.sure_users.is_empty() && a.sure_users == b.sure_users,
            |a, b| a.file == b.file && (overlap(&a.sure_users, &b.users) || overlap(&a.users, &b.sure_users)),
            |a, b| a.file == b.file && !a.users.is_empty() && a.users == b.users,
            |a, b| a.file == b.file && overlap(&a.users, &b.users),
            |a, b| overlap(&a.users, &b.users),
            |a, b| a.file == b.file,
            |_, _| true,
        ]
    }

    #[test]
    fn what_cannot_be_told_apart_is_not_guessed() {
        let twin = symbol("1", &[]);
        check(&[twin.clone(), twin.clone()], &[twin.clone(), twin], &[None, None], true);
    }
}
