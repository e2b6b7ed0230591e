//! Where a loop that counts down through a static may end, although nothing there is state: as far below the static as that is
//! long.

use super::Image;
use crate::model::Vaddr;

/// So many bytes of addresses from `start` on, which may wrap around.
pub struct Approach {
    start: u64,
    size: u64,
}

impl Approach {
    pub fn of(image: &Image) -> Self {
        let state = || image.tables.sections.iter().filter(|section| section.kind.is_state());
        let start = state().map(|section| section.address).min().unwrap_or(0);
        let end = state().map(|section| section.end()).max().unwrap_or(0);
        let sizes = image.objects.iter().filter(|object| !object.constant).map(|object| object.size);
        let longest = sizes.max().unwrap_or(0);
        // It may begin before the file does.
        Approach { start: start.wrapping_sub(longest), size: end.saturating_sub(start).saturating_add(longest) }
    }

    pub fn contains(&self, target: Vaddr) -> bool {
        target.0.wrapping_sub(self.start) < self.size
    }
}
