//! Which symbol of the new file is which of the old ones.
//!
//! Names come first. Where several symbols share one (C statics of different files, function-local statics), the source
//! file and what refers to them decide; what stays ambiguous is not guessed.

use smallvec::{SmallVec, smallvec};

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

/// Whether an old and a new symbol may be the same.
type Rule = fn(&Traits, &Traits) -> bool;

/// Pairs the symbols of one name.
pub fn pair(old: &[Traits], new: &[Traits]) -> Pairing {
    if let ([old], [new]) = (old, new) {
        let partners = smallvec![may_be_same(old, new).then_some(0)];
        return Pairing { partners, ambiguous: false, by_order: false };
    }
    let mut partners: SmallVec<[Option<usize>; 1]> = smallvec![None; new.len()];
    let mut taken = vec![false; old.len()];
    // From the most telling to the least.
    let rules: [Rule; 9] = [
        |a, b| a.version.is_some() && a.version == b.version,
        |a, b| a.file == b.file && a.content.is_some() && a.content == b.content,
        |a, b| a.file == b.file && !a.sure_users.is_empty() && a.sure_users == b.sure_users,
        |a, b| a.file == b.file && (overlap(&a.sure_users, &b.users) || overlap(&a.users, &b.sure_users)),
        |a, b| a.file == b.file && !a.users.is_empty() && a.users == b.users,
        |a, b| a.file == b.file && overlap(&a.users, &b.users),
        |a, b| overlap(&a.users, &b.users),
        |a, b| a.file == b.file,
        |_, _| true,
    ];
    for rule in rules {
        // Only what is unique from both sides is taken, until nothing more becomes so.
        loop {
            let mut progress = false;
            for index in 0..new.len() {
                if partners[index].is_some() {
                    continue;
                }
                let mut fits = (0..old.len()).filter(|other| !taken[*other] && rule(&old[*other], &new[index]));
                let (Some(only), None) = (fits.next(), fits.next()) else { continue };
                let rivals =
                    (0..new.len()).filter(|rival| partners[*rival].is_none() && rule(&old[only], &new[*rival]));
                if rivals.count() == 1 {
                    partners[index] = Some(only);
                    taken[only] = true;
                    progress = true;
                }
            }
            if !progress {
                break;
            }
        }
    }
    pair_twins(old, new, &mut partners, &mut taken);
    let by_order = pair_siblings(old, new, &mut partners, &mut taken);
    let left = partners.iter().filter(|partner| partner.is_none()).count();
    let ambiguous = left > 0 && taken.iter().any(|taken| !taken);
    Pairing { partners, ambiguous, by_order }
}

/// Statics of one name in one function (a macro's `static int done`), as many as before: the first stays the first.
fn pair_siblings(old: &[Traits], new: &[Traits], partners: &mut [Option<usize>], taken: &mut [bool]) -> bool {
    let mut found = false;
    for first in 0..new.len() {
        let alike = |other: &Traits| other.file == new[first].file && other.users == new[first].users;
        if partners[first].is_some() || new[first].users.is_empty() {
            continue;
        }
        let mut olds: Vec<usize> = (0..old.len()).filter(|index| !taken[*index] && alike(&old[*index])).collect();
        let mut news: Vec<usize> =
            (0..new.len()).filter(|index| partners[*index].is_none() && alike(&new[*index])).collect();
        if olds.len() != news.len() {
            continue;
        }
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
    use super::{Traits, pair};
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

    #[test]
    fn what_cannot_be_told_apart_is_not_guessed() {
        let twin = symbol("1", &[]);
        check(&[twin.clone(), twin.clone()], &[twin.clone(), twin], &[None, None], true);
    }
}
