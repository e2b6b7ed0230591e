//! Functions through the generations of a module: each is a family, with the name that it began with.
//!
//! There may be a hundred thousand of them. What one question asks of all stands together, so each answer is a list.

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};

use super::lineage::Instance;
use crate::image::{NOBODY, NameKey};

#[derive(Debug)]
pub struct Families {
    /// By family, as are the others: what its first instance was called.
    keys: Vec<NameKey>,
    oldest: Vec<Short>,
    newest: Vec<Short>,
    /// The family before this one in the chain of those with the same key, or [`NOBODY`].
    namesakes: Vec<u32>,
    traits: Vec<Traits>,
    /// The last family of each key; the others follow in its chain.
    by_key: HashMap<NameKey, u32>,
    /// What instances were called that are of families which had begun with another name.
    renamed: HashSet<NameKey>,
}

/// An instance in half the room.
#[derive(Clone, Copy, Debug)]
struct Short {
    generation: u32,
    function: u32,
}

impl From<Instance> for Short {
    fn from(instance: Instance) -> Short {
        Short { generation: instance.generation as u32, function: instance.function }
    }
}

impl From<Short> for Instance {
    fn from(short: Short) -> Instance {
        Instance { generation: short.generation as usize, function: short.function }
    }
}

#[derive(Clone, Copy, Debug)]
struct Traits {
    /// What becomes of some entry of it depends on other families too: it is shared, or borrows room.
    entangled: bool,
    /// It is the last in the chain of its namesakes.
    last: bool,
    /// No instance of another family was ever called so, and all of its own were.
    settled: bool,
}

impl Families {
    pub fn with_capacity(count: usize) -> Families {
        Families {
            keys: Vec::with_capacity(count),
            oldest: Vec::with_capacity(count),
            newest: Vec::with_capacity(count),
            namesakes: Vec::with_capacity(count),
            traits: Vec::with_capacity(count),
            by_key: HashMap::with_capacity(count),
            renamed: HashSet::new(),
        }
    }

    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// Begins one.
    pub fn found(&mut self, key: NameKey, first: Instance) -> u32 {
        let family = self.keys.len() as u32;
        let namesake = self.by_key.insert(key, family);
        if let Some(namesake) = namesake {
            let traits = &mut self.traits[namesake as usize];
            (traits.last, traits.settled) = (false, false);
        }
        let settled = namesake.is_none() && !self.renamed.contains(&key);
        self.keys.push(key);
        self.oldest.push(first.into());
        self.newest.push(first.into());
        self.namesakes.push(namesake.unwrap_or(NOBODY));
        self.traits.push(Traits { entangled: false, last: true, settled });
        family
    }

    /// Goes on with an instance of the next generation.
    pub fn continued(&mut self, family: u32, newest: Instance) {
        self.newest[family as usize] = newest.into();
    }

    /// Its newest instance is called so.
    pub fn called(&mut self, family: u32, key: NameKey) {
        if self.keys[family as usize] != key {
            self.renamed.insert(key);
            for unsettled in self.by_key.get(&key).copied().into_iter().chain([family]) {
                self.traits[unsettled as usize].settled = false;
            }
        }
    }

    /// Whether any instance was called otherwise than the first of its family.
    pub fn is_any_renamed(&self) -> bool {
        !self.renamed.is_empty()
    }

    pub fn entangle(&mut self, family: u32) {
        self.traits[family as usize].entangled = true;
    }

    /// Whether what becomes of an entry of the family depends on other families too.
    pub fn is_entangled(&self, family: u32) -> bool {
        self.traits[family as usize].entangled
    }

    /// Whether no instance of another family was ever called as this one began, and all of its own were.
    pub fn is_settled(&self, family: u32) -> bool {
        self.traits[family as usize].settled
    }

    pub fn oldest(&self, family: u32) -> Instance {
        self.oldest[family as usize].into()
    }

    pub fn newest(&self, family: u32) -> Instance {
        self.newest[family as usize].into()
    }

    /// The newest family of this key. `guess` is looked at first: functions mostly come in the order that they had before, and
    /// searching a large table misses the cache.
    pub fn newest_of(&self, key: NameKey, guess: u32) -> Option<u32> {
        match self.keys.get(guess as usize) {
            Some(known) if *known == key && self.traits[guess as usize].last => Some(guess),
            _ => self.by_key.get(&key).copied(),
        }
    }

    /// The families of the same key as this one, from it on to older ones.
    pub fn namesakes(&self, family: u32) -> impl Iterator<Item = u32> {
        let before = |family: &u32| Some(self.namesakes[*family as usize]).filter(|namesake| *namesake != NOBODY);
        std::iter::successors(Some(family), before)
    }

    /// All that began with this name, newest first.
    pub fn called_at_first(&self, key: NameKey) -> impl Iterator<Item = u32> {
        self.by_key.get(&key).into_iter().flat_map(|newest| self.namesakes(*newest))
    }
}

#[cfg(test)]
mod tests {
    use super::Families;
    use crate::{image::NameKey, plan::lineage::Instance};

    fn at(generation: usize) -> Instance {
        Instance { generation, function: 0 }
    }

    #[test]
    fn namesakes_are_chained_newest_first() {
        let mut families = Families::with_capacity(0);
        let [one, other, third] = [7, 8, 7].map(|key| families.found(NameKey(key), at(0)));
        assert_eq!(families.namesakes(third).collect::<Vec<_>>(), [third, one]);
        assert_eq!(families.called_at_first(NameKey(8)).collect::<Vec<_>>(), [other]);
        assert_eq!(families.called_at_first(NameKey(9)).count(), 0);
        // Whatever is guessed.
        for guess in [one, other, third, 99] {
            assert_eq!(families.newest_of(NameKey(7), guess), Some(third));
            assert_eq!(families.newest_of(NameKey(9), guess), None);
        }
    }

    #[test]
    fn who_has_a_namesake_or_another_name_is_not_settled() {
        let mut families = Families::with_capacity(0);
        let [one, other, renamed] = [7, 8, 9].map(|key| families.found(NameKey(key), at(0)));
        families.called(other, NameKey(8));
        families.called(renamed, NameKey(10));
        let namesake = families.found(NameKey(7), at(1));
        // Its first name again does not help, and its second one is no other's alone any more.
        families.called(renamed, NameKey(9));
        let second = families.found(NameKey(10), at(1));
        let settled = [one, other, renamed, namesake, second].map(|family| families.is_settled(family));
        assert_eq!(settled, [false, true, false, false, false]);
        families.called(second, NameKey(8));
        assert!(!families.is_settled(other));
    }

    #[test]
    fn a_family_knows_its_ends() {
        let mut families = Families::with_capacity(0);
        let family = families.found(NameKey(7), at(2));
        families.continued(family, at(5));
        assert_eq!((families.oldest(family), families.newest(family)), (at(2), at(5)));
    }
}
