//! Where and how a function's entry can be made to jump elsewhere.
//!
//! A five-byte `jmp rel32` where there is room and nothing ever lands inside those bytes; else a two-byte `jmp rel8` to
//! padding nearby that holds the long jump; else, to the second five bytes of a function nearby that is redirected as well:
//! while its own jump stands in front of them, nothing ever reaches those. Else not at all, and the report says so.
//!
//! Not by `int3`: a thread that blocks SIGTRAP dies of it whatever handler there is (the kernel forces synchronous signals,
//! `signal(7)`), a host's own handler or debugger would have to be told apart from ours, and so it is with every other
//! instruction of one byte that faults. `a_trap_would_end_a_thread_that_blocks_its_signal` in `tests/target/commits.rs` shows it.

use std::{collections::HashSet, num::NonZeroU8};

use crate::model::Vaddr;

/// Bytes of `jmp rel32`.
pub const NEAR: u64 = 5;
/// Bytes of `jmp rel8`.
pub const SHORT: u64 = 2;

/// A function's entry.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    /// First byte that may be overwritten: after `endbr64` where there is one.
    pub at: Vaddr,
    pub form: Form,
}

/// Which jump fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    Near,
    /// Through five bytes of padding at this address.
    Short {
        padding: Vaddr,
    },
    /// Through five bytes at `at` of another function, of this index, as long as that one is redirected.
    Borrowed {
        from: u32,
        at: Vaddr,
    },
    #[default]
    None,
}

/// The entries of all functions of a file. Nearly all have room for a jump where the function begins, so what is said of each is
/// short, and what is to be said of the others stands apart.
#[derive(Debug, Default)]
pub struct Entries {
    /// Parallel to the functions.
    briefs: Vec<Brief>,
    /// By index of the function, ascending: the forms of those that are not [`Form::Near`].
    others: Vec<(u32, Form)>,
}

#[derive(Clone, Copy, Debug)]
struct Brief {
    /// Bytes from the function's start to what may be overwritten.
    skipped: u8,
    near: bool,
}

impl Entries {
    /// Of the function of this index, which begins there.
    pub fn of(&self, function: usize, address: Vaddr) -> Entry {
        let Brief { skipped, near } = self.briefs[function];
        let other = || self.others.binary_search_by_key(&function, |(other, _)| *other as usize);
        let form = if near { Form::Near } else { other().map_or(Form::None, |other| self.others[other].1) };
        Entry { at: Vaddr(address.0 + u64::from(skipped)), form }
    }

    /// Indices of the functions whose entries are not [`Form::Near`], and what they are.
    pub fn others(&self) -> &[(u32, Form)] {
        &self.others
    }
}

/// What the scan saw of a function's first bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    pub at: Vaddr,
    /// Bytes from `at` that belong to this function or are padding after it, as far as anybody needs them.
    room: u8,
    /// Those of them that belong to the function.
    own: u8,
    /// Bytes from `at` to the lowest address after it that a branch targets or a call returns to, if those are fewer than twice
    /// [`NEAR`].
    landing: Option<NonZeroU8>,
    /// The only symbol here, and of a function that can be redirected.
    pub alone: bool,
}

impl Facts {
    /// Of a function of which nothing is known yet.
    pub fn at(at: Vaddr) -> Facts {
        Facts { at, ..Facts::default() }
    }

    /// Records where the function ends, and where the padding after it does.
    pub fn ends(&mut self, function: u64, padding: u64) {
        let from_here = |end: u64| end.saturating_sub(self.at.0).min(2 * NEAR) as u8;
        (self.own, self.room) = (from_here(function), from_here(padding));
    }

    /// Records that control may arrive at `address`.
    pub fn lands(&mut self, address: Vaddr) {
        if address > self.at && address.0 < self.at.0 + 2 * NEAR {
            let distance = NonZeroU8::new((address.0 - self.at.0) as u8);
            self.landing = self.landing.min(distance).or(distance);
        }
    }

    fn free(&self) -> u8 {
        self.landing.map_or(self.room, |landing| self.room.min(landing.get()))
    }

    /// Whether another function may use the second [`NEAR`] bytes of this one while it is redirected.
    fn lends(&self) -> bool {
        self.alone && u64::from(self.free().min(self.own)) >= 2 * NEAR
    }
}

/// Padding between functions that may hold long jumps, ascending.
#[derive(Debug, Default)]
pub struct Padding(pub Vec<(Vaddr, Vaddr)>);

impl Padding {
    /// Takes five bytes within reach of a short jump at `at`.
    fn take(&mut self, at: Vaddr) -> Option<Vaddr> {
        let next = at.0 + SHORT;
        let first = self.0.partition_point(|(start, _)| start.0 + 128 < next);
        for (start, end) in &mut self.0[first..] {
            if start.0 > next + 127 {
                break;
            }
            if start.0 + NEAR <= end.0 {
                let taken = *start;
                start.0 += NEAR;
                return Some(taken);
            }
        }
        None
    }
}

/// Decides the form of every entry; `facts` are in address order, so that the same file always gives the same answer, and
/// `starts` the functions' addresses.
pub fn decide(facts: &[Facts], starts: impl Iterator<Item = Vaddr>, padding: &mut Padding) -> Entries {
    let mut entries = Entries { briefs: Vec::with_capacity(facts.len()), others: Vec::new() };
    let mut lent = HashSet::new();
    let mut last: Option<Entry> = None;
    for (function, (fact, start)) in (0..).zip(facts.iter().zip(starts)) {
        let mut through = || {
            let short = padding.take(fact.at).map(|padding| Form::Short { padding });
            short.or_else(|| borrow(facts, fact.at, &mut lent)).unwrap_or(Form::None)
        };
        let form = match (last.filter(|entry| entry.at == fact.at), fact.free().into()) {
            (Some(same), _) => same.form,
            (None, NEAR..) => Form::Near,
            (None, SHORT..) => through(),
            _ => Form::None,
        };
        last = Some(Entry { at: fact.at, form });
        let near = form == Form::Near;
        entries.briefs.push(Brief { skipped: fact.at.0.saturating_sub(start.0) as u8, near });
        entries.others.extend((!near).then_some((function, form)));
    }
    entries
}

/// Whether a short jump at `at` reaches `to`.
fn reaches(at: Vaddr, to: u64) -> bool {
    let next = at.0 + SHORT;
    to + 128 >= next && to <= next + 127
}

/// Five bytes of a function within reach of a short jump at `at`, of one that has not lent them yet.
fn borrow(facts: &[Facts], at: Vaddr, lent: &mut HashSet<u32>) -> Option<Form> {
    let first = facts.partition_point(|host| host.at.0 + NEAR + 128 < at.0 + SHORT);
    let near = facts[first..].iter().zip(first..).take_while(|(host, _)| host.at.0 <= at.0 + SHORT + 127);
    for (host, index) in near {
        let springboard = host.at.0 + NEAR;
        if host.at != at && host.lends() && reaches(at, springboard) && lent.insert(index as u32) {
            return Some(Form::Borrowed { from: index as u32, at: Vaddr(springboard) });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Facts, Form, Padding, decide};
    use crate::model::Vaddr;

    fn fact(at: u64, own: u64, landing: Option<u64>, alone: bool) -> Facts {
        let mut facts = Facts { alone, ..Facts::at(Vaddr(at)) };
        facts.ends(at + own, at + own);
        landing.into_iter().for_each(|landing| facts.lands(Vaddr(landing)));
        facts
    }

    fn decided(facts: &[Facts], padding: &mut Padding) -> Vec<Form> {
        let entries = decide(facts, facts.iter().map(|facts| facts.at), padding);
        facts.iter().enumerate().map(|(index, facts)| entries.of(index, facts.at).form).collect()
    }

    fn check(room: u64, landing: Option<u64>, padding: &[(u64, u64)], expected: Form) {
        let mut padding = Padding(padding.iter().map(|(start, end)| (Vaddr(*start), Vaddr(*end))).collect());
        let facts = fact(0x1000, room, landing, true);
        assert_eq!(decided(&[facts], &mut padding), [expected]);
    }

    #[test]
    fn the_largest_jump_that_fits_is_chosen() {
        check(5, None, &[], Form::Near);
        check(4, None, &[(0x1010, 0x1018)], Form::Short { padding: Vaddr(0x1010) });
        check(64, Some(0x1004), &[(0xff0, 0xff6)], Form::Short { padding: Vaddr(0xff0) });
        check(64, Some(0x1001), &[(0x1010, 0x1018)], Form::None);
        check(4, None, &[(0x1010, 0x1014)], Form::None);
        check(4, None, &[(0x1100, 0x1110)], Form::None);
    }
    #[test]
    fn without_padding_a_neighbour_lends_what_its_own_jump_makes_unreachable() {
        let check = |facts: &[Facts], expected: &[Form]| {
            assert_eq!(decided(facts, &mut Padding::default()), expected);
        };
        let tiny = fact(0x1000, 4, None, true);
        let borrowed = |from, at| Form::Borrowed { from, at: Vaddr(at) };
        check(&[tiny, fact(0x1004, 10, None, true)], &[borrowed(1, 0x1009), Form::Near]);
        check(&[fact(0xfe0, 32, None, true), tiny], &[Form::Near, borrowed(0, 0xfe5)]);
        // Too short, landed in, under a second name, out of reach, lent already.
        check(&[tiny, fact(0x1004, 9, None, true)], &[Form::None, Form::Near]);
        check(&[tiny, fact(0x1004, 20, Some(0x100b), true)], &[Form::None, Form::Near]);
        check(&[tiny, fact(0x1004, 20, None, false)], &[Form::None, Form::Near]);
        check(&[tiny, fact(0x1090, 20, None, true)], &[Form::None, Form::Near]);
        let other = fact(0x1004, 4, None, true);
        check(&[tiny, other, fact(0x1008, 20, None, true)], &[borrowed(2, 0x100d), Form::None, Form::Near]);
    }
}
