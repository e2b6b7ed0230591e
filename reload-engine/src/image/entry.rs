//! Where and how a function's entry can be made to jump elsewhere.
//!
//! A five-byte `jmp rel32` where there is room and nothing ever lands inside those bytes; else a two-byte `jmp rel8` to
//! padding nearby that holds the long jump; else not at all, and the report says so.

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
    #[default]
    None,
}

/// What the scan saw of a function's first bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    pub at: Vaddr,
    /// Bytes from `at` that belong to this function or are padding after it.
    pub room: u64,
    /// Lowest address after `at` that a branch targets or a call returns to, if it lies within [`NEAR`] bytes.
    pub landing: Option<Vaddr>,
}

impl Facts {
    /// Records that control may arrive at `address`.
    pub fn lands(&mut self, address: Vaddr) {
        if address > self.at && address.0 < self.at.0 + NEAR {
            self.landing = Some(self.landing.map_or(address, |known| known.min(address)));
        }
    }

    fn free(&self) -> u64 {
        self.landing.map_or(self.room, |landing| self.room.min(landing.0 - self.at.0))
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

/// Decides the form of every entry, in address order, so that the same file always gives the same answer.
pub fn decide(facts: &[Facts], padding: &mut Padding) -> Vec<Entry> {
    let mut last: Option<Entry> = None;
    facts
        .iter()
        .map(|fact| {
            if let Some(entry) = last.filter(|entry| entry.at == fact.at) {
                return entry;
            }
            let form = if fact.free() >= NEAR {
                Form::Near
            } else if fact.free() >= SHORT {
                padding.take(fact.at).map_or(Form::None, |padding| Form::Short { padding })
            } else {
                Form::None
            };
            let entry = Entry { at: fact.at, form };
            last = Some(entry);
            entry
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Facts, Form, Padding, decide};
    use crate::model::Vaddr;

    fn check(room: u64, landing: Option<u64>, padding: &[(u64, u64)], expected: Form) {
        let mut padding = Padding(padding.iter().map(|(start, end)| (Vaddr(*start), Vaddr(*end))).collect());
        let facts = Facts { at: Vaddr(0x1000), room, landing: landing.map(Vaddr) };
        assert_eq!(decide(&[facts], &mut padding)[0].form, expected);
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
}
