//! Which function of one generation belongs to each family, where most families of a long lineage have none in it: what
//! compilers split off begins a new one in each generation.
//!
//! A table in pages, of which there are only those that hold something. Families that begin together stand together.

use crate::image::NOBODY;

/// Families per page.
const PAGE: usize = 256;

/// The functions of one generation by family.
#[derive(Debug, Default)]
pub struct ByFamily {
    /// By page: where it begins among the functions, or [`NOBODY`].
    pages: Vec<u32>,
    functions: Vec<u32>,
}

impl ByFamily {
    /// `families` are parallel to the functions.
    pub fn new(families: &[u32]) -> ByFamily {
        let mut all = ByFamily { pages: Vec::new(), functions: Vec::with_capacity(families.len() + PAGE) };
        for (function, family) in (0..).zip(families) {
            let (page, place) = (*family as usize / PAGE, *family as usize % PAGE);
            if all.pages.len() <= page {
                all.pages.resize(page + 1, NOBODY);
            }
            if all.pages[page] == NOBODY {
                all.pages[page] = all.functions.len() as u32;
                all.functions.resize(all.functions.len() + PAGE, NOBODY);
            }
            all.functions[all.pages[page] as usize + place] = function;
        }
        all
    }

    /// Index of the function of this family.
    pub fn function(&self, family: u32) -> Option<u32> {
        let page = self.pages.get(family as usize / PAGE).copied().filter(|page| *page != NOBODY)?;
        let function = self.functions[page as usize + family as usize % PAGE];
        (function != NOBODY).then_some(function)
    }
}

#[cfg(test)]
mod tests {
    use super::{ByFamily, PAGE};

    #[test]
    fn functions_are_found_by_their_families_and_nobody_else_is() {
        let page = PAGE as u32;
        let families = [0, 1, page - 1, 1000 * page, 1000 * page + 7, 3, 5 * page];
        let by_family = ByFamily::new(&families);
        for family in (0..1002 * page).chain([u32::MAX]) {
            let expected = families.iter().position(|known| *known == family).map(|function| function as u32);
            assert_eq!(by_family.function(family), expected, "family {family}");
        }
        assert_eq!(by_family.functions.len(), 3 * PAGE, "no page without functions");
    }
}
