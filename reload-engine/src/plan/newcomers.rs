//! Functions that the running generation does not have, and their statics as gcc names them: `name.N`, where other compilers put
//! the function into the name. Such a static is not the running one of its name, which another function has.

use foldhash::{HashMap, HashSet};

use super::{lineage::Lineage, matching::overlap};
use crate::{
    image::{Image, NameKey},
    model::Addr,
};

/// By name; a piece that the compiler split off counts as the whole.
pub struct Newcomers {
    /// Those that continue none, and of whose name the running generation has none.
    added: HashSet<NameKey>,
    /// Those that continue one of an older generation, with its family.
    returning: HashMap<NameKey, u32>,
}

impl Newcomers {
    /// Of `image`, which follows generation `parent`; `partners` are the families of its functions.
    pub fn of(lineage: &Lineage, parent: usize, image: &Image, partners: &[Option<u32>]) -> Newcomers {
        let placed = lineage.placed(parent);
        let old = &placed.image;
        let without_family = image.functions.iter().zip(partners).filter(|(_, family)| family.is_none());
        // Start-up code, and pieces of what was there before, continue nothing either.
        let wholes = without_family.map(|(function, _)| image.whole_key(function));
        let mut added: HashSet<NameKey> = wholes.filter(|whole| !lineage.has(parent, *whole)).collect();
        if !added.is_empty() {
            for piece in old.functions.iter().filter(|function| function.auxiliary) {
                added.remove(&old.whole_key(piece));
            }
        }
        // Most stay where they are among the functions.
        let gone = |index: usize, family: u32| {
            placed.families.get(index) != Some(&family) && lineage.instance(family, parent).is_none()
        };
        let continued = partners.iter().enumerate().filter_map(|(index, family)| Some((index, (*family)?)));
        let returning = continued.filter(|(index, family)| gone(*index, *family));
        let returning = returning.map(|(index, family)| (image.identities()[index].key, family)).collect();
        Newcomers { added, returning }
    }

    /// Whether a static belongs to functions that continue none.
    pub fn have(&self, image: &Image, object: usize) -> bool {
        !self.added.is_empty() && self.own(image, object, |user| self.added.contains(user))
    }

    /// The family of a function that was gone and is back, whose static this is. Of one that is inlined everywhere nothing tells.
    pub fn returning_with(&self, image: &Image, object: usize) -> Option<u32> {
        let returns = |user: &NameKey| self.returning.contains_key(user);
        let is_theirs = !self.returning.is_empty() && self.own(image, object, returns);
        is_theirs.then(|| self.returning[&image.users_of(object)[0]])
    }

    /// Whether such a static is used, and by nobody else than functions of which this is so.
    fn own(&self, image: &Image, object: usize, is_one: impl Fn(&NameKey) -> bool) -> bool {
        let is_plain =
            |stem: &str| !stem.is_empty() && !stem.starts_with("_Z") && !stem.starts_with("_R") && !stem.contains('.');
        let numbered =
            |(stem, number): (&str, &str)| is_plain(stem) && number.bytes().all(|byte| byte.is_ascii_digit());
        let is_of_function = image.object_name(&image.objects[object]).rsplit_once('.').is_some_and(numbered);
        is_of_function && !image.users_of(object).is_empty() && image.users_of(object).iter().all(is_one)
    }
}

/// Where a static lived when this family's function, which it belongs to, was last there.
pub fn home_before(lineage: &Lineage, family: u32, image: &Image, object: usize) -> Option<Addr> {
    let placed = lineage.placed(lineage.newest(family).generation);
    let (old, new) = (&placed.image, &image.objects[object]);
    let is_same = |index: &usize| {
        let it = &old.objects[*index];
        let alike = it.key == new.key && it.size == new.size && it.file == new.file && !it.constant;
        alike && overlap(old.users_of(*index), image.users_of(object))
    };
    let mut same = (0..old.objects.len()).filter(is_same);
    same.next().filter(|_| same.next().is_none()).map(|index| placed.homes.objects[index])
}
