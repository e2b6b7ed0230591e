//! Who refers to which static, so that statics of one name can be told apart.

use foldhash::{HashMap, HashMapExt as _};
use twox_hash::XxHash3_128;

use super::{Analysis, NameKey, RelocationKind, Resolves};
use crate::model::Vaddr;

/// Who refers to an object.
#[derive(Debug, Default)]
pub struct Users {
    keys: Vec<NameKey>,
    /// Those whose references cannot mean the end of what lies right before it.
    sure: Vec<NameKey>,
    first: Option<Vaddr>,
}

impl Analysis {
    /// Who refers to the object of this index, ascending: functions by the key of the whole, and pointers in other objects by where they
    /// stand.
    pub fn users_of(&self, object: usize) -> &[NameKey] {
        self.users().get(&(object as u32)).map_or(&[], |users| &users.keys)
    }

    /// Those of them who mean nothing else: they do not use what lies right before it, whose end they could walk to.
    pub fn sure_users_of(&self, object: usize) -> &[NameKey] {
        self.users().get(&(object as u32)).map_or(&[], |users| &users.sure)
    }

    /// The lowest place in code that refers to the object of this index; 0 if there is none.
    pub fn first_use_of(&self, object: usize) -> u64 {
        self.users().get(&(object as u32)).and_then(|users| users.first).map_or(0, |site| site.0)
    }

    fn users(&self) -> &HashMap<u32, Users> {
        self.users.get_or_init(|| {
            let mut all: HashMap<u32, Users> = HashMap::new();
            // Who takes the address where another object ends, and that object.
            let mut unsure: Vec<(u32, u32, NameKey)> = Vec::new();
            for reference in &self.references {
                if let Some(function) = reference.function()
                    && let Some(object) = self.object_meant(reference.target)
                {
                    let users = all.entry(object as u32).or_default();
                    let user = self.whole_key(&self.functions[function as usize]);
                    users.keys.push(user);
                    users.first.get_or_insert(reference.site);
                    let ending = || self.object_ending_at(reference.target);
                    match reference.address_taken.then(ending).flatten() {
                        Some(before) => unsure.push((object as u32, before as u32, user)),
                        None => users.sure.push(user),
                    }
                }
            }
            for relocation in &self.tables.relocations {
                if let Resolves::Here(target) = relocation.resolves
                    && relocation.kind == RelocationKind::Address
                    && let Some(object) = self.object_at(target)
                    && let Some(holder) = self.object_at(relocation.slot)
                {
                    let holder = &self.objects[holder];
                    let place = [holder.key.0, u128::from(relocation.slot.0 - holder.address.0)];
                    let place = place.map(u128::to_le_bytes).concat();
                    let place = NameKey(XxHash3_128::oneshot(&place));
                    let users = all.entry(object as u32).or_default();
                    users.keys.push(place);
                    users.sure.push(place);
                }
            }
            for users in all.values_mut() {
                users.keys.sort_unstable();
                users.keys.dedup();
            }
            for (object, before, user) in unsure {
                if all.get(&before).is_none_or(|users| users.keys.binary_search(&user).is_err()) {
                    all.entry(object).or_default().sure.push(user);
                }
            }
            for users in all.values_mut() {
                users.sure.sort_unstable();
                users.sure.dedup();
            }
            all
        })
    }

    /// The last object before `address`, if it ends there.
    fn object_ending_at(&self, address: Vaddr) -> Option<usize> {
        let here = self.object_places.below(address.0);
        let last = (0..here).rev().find(|index| self.objects[*index].size > 0)?;
        (self.objects[last].end() == address).then_some(last)
    }
}
