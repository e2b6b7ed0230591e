//! The ledger: the engine's parts and their revision.
//!
//! Kept as a log. A change is one more entry, so what it costs is its own size; a reader that is some revisions behind gets what
//! came since; and an entry that was published never changes.
//!
//! In a static, not in the server: a forked child has the generations of its parent in its memory, and its own agent, should it
//! get one, must go on from their ledger. So it changes in the same instant as the code, by the exchange of one pointer. Only the
//! agent's thread calls anything here but [`publish`], which a forked child finishing its parent's commit may call too.

use std::{
    collections::HashSet,
    iter, ptr,
    sync::{
        Arc,
        atomic::{AtomicPtr, Ordering},
    },
};

use reload_protocol::Part;

/// A log of fewer changes is not worth making anew.
const SHORT: usize = 256;

/// An entry of the log.
struct Ledger {
    revision: u64,
    /// What this revision changed; all there is, if none comes before it.
    parts: Vec<Part>,
    before: Option<Arc<Ledger>>,
    /// Parts in the log so far, an entry without any counted as one.
    logged: usize,
    /// How many of those stood in its first entry.
    first: usize,
}

/// Null is revision 0 and no parts. These hold counted references.
static CURRENT: AtomicPtr<Ledger> = AtomicPtr::new(ptr::null_mut());
/// What [`publish`] will make the current one.
static NEXT: AtomicPtr<Ledger> = AtomicPtr::new(ptr::null_mut());
/// The one before; given up when nothing is stopped.
static BEFORE: AtomicPtr<Ledger> = AtomicPtr::new(ptr::null_mut());

pub fn revision() -> u64 {
    current().map_or(0, |ledger| ledger.revision)
}

/// The parts that are others than at revision `since`, the last state of each, and whether these are all there are.
pub fn changed_since(since: u64) -> (bool, Vec<Part>) {
    current().map_or((true, Vec::new()), |ledger| ledger.changed_since(since))
}

/// Makes the ledger ready, changed by these parts, that a commit will publish.
pub fn prepare(parts: Vec<Part>) {
    let next = Ledger::after(current(), parts);
    drop(taken(NEXT.swap(Arc::into_raw(Arc::new(next)).cast_mut(), Ordering::AcqRel)));
    drop(taken(BEFORE.swap(ptr::null_mut(), Ordering::AcqRel)));
}

/// Makes what was prepared the ledger, if something was. Neither allocates nor frees.
pub fn publish() {
    let next = NEXT.swap(ptr::null_mut(), Ordering::AcqRel);
    if !next.is_null() {
        BEFORE.store(CURRENT.swap(next, Ordering::AcqRel), Ordering::Release);
    }
}

impl Ledger {
    fn after(before: Option<Arc<Ledger>>, parts: Vec<Part>) -> Ledger {
        let before = before.map(|before| if before.is_long() { Arc::new(before.folded()) } else { before });
        let revision = before.as_ref().map_or(0, |before| before.revision) + 1;
        let own = parts.len().max(1);
        let (logged, first) = before.as_ref().map_or((own, own), |before| (before.logged + own, before.first));
        Ledger { revision, parts, before, logged, first }
    }

    /// Twice as long as it must be: making it anew then costs no more than what was logged since.
    fn is_long(&self) -> bool {
        self.logged > 2 * self.first + SHORT
    }

    /// The same in one entry.
    fn folded(&self) -> Ledger {
        let (_, parts) = self.changed_since(0);
        let first = parts.len().max(1);
        Ledger { revision: self.revision, parts, before: None, logged: first, first }
    }

    fn changed_since(&self, since: u64) -> (bool, Vec<Part>) {
        // Somebody who has seen more than there is talks of another program that was here before.
        let since = if since > self.revision { 0 } else { since };
        let entries = iter::successors(Some(self), |entry| entry.before.as_deref());
        let mut known = HashSet::new();
        let mut parts = Vec::new();
        let mut whole = false;
        for entry in entries.take_while(|entry| entry.revision > since) {
            parts.extend(entry.parts.iter().filter(|part| known.insert(&part.key)).cloned());
            whole = entry.before.is_none();
        }
        if whole {
            parts.retain(|part| part.value.is_some());
        }
        (whole, parts)
    }
}

impl Drop for Ledger {
    /// One after the other: a long log would take a deep stack.
    fn drop(&mut self) {
        let mut before = self.before.take();
        while let Some(mut entry) = before.and_then(Arc::into_inner) {
            before = entry.before.take();
        }
    }
}

fn current() -> Option<Arc<Ledger>> {
    let current = CURRENT.load(Ordering::Acquire);
    if current.is_null() {
        return None;
    }
    // SAFETY: the static's counted reference, which is given up by nobody but the calling thread, in `prepare`, two exchanges
    // later; this is one more.
    unsafe {
        Arc::increment_strong_count(current);
        Some(Arc::from_raw(current))
    }
}

/// The counted reference that a static has held.
fn taken(ledger: *mut Ledger) -> Option<Arc<Ledger>> {
    // SAFETY: a pointer of `Arc::into_raw` that no static holds any more.
    (!ledger.is_null()).then(|| unsafe { Arc::from_raw(ledger) })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use reload_protocol::Part;

    use super::{Ledger, SHORT};

    fn part(key: u32, value: Option<u32>) -> Part {
        Part { key: key.to_le_bytes().into(), value: value.map(|value| value.to_le_bytes().into()) }
    }

    /// What a reader that knew `known` at revision `since` then knows.
    fn read(ledger: &Ledger, since: u64, known: &BTreeMap<Vec<u8>, Vec<u8>>) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let (whole, parts) = ledger.changed_since(since);
        let mut now = if whole { BTreeMap::new() } else { known.clone() };
        for Part { key, value } in parts {
            match value {
                Some(value) => now.insert(key, value),
                None => now.remove(&key),
            };
        }
        now
    }

    #[test]
    fn every_reader_learns_the_same_however_far_behind() {
        let mut ledger: Option<Arc<Ledger>> = None;
        let mut states = vec![BTreeMap::new()];
        for number in 0..2 * SHORT as u32 {
            // Ten keys that change in turns, one that comes and goes, and sometimes nothing.
            let mut parts = vec![part(number % 10, Some(number))];
            parts.extend((number % 3 == 0).then(|| part(77, (number % 2 == 0).then_some(number))));
            if number % 7 == 0 {
                parts.clear();
            }
            let mut state = states[states.len() - 1].clone();
            for Part { key, value } in parts.clone() {
                match value {
                    Some(value) => state.insert(key, value),
                    None => state.remove(&key),
                };
            }
            states.push(state);
            let next = Ledger::after(ledger.take(), parts);
            let revision = next.revision as usize;
            assert_eq!(revision, number as usize + 1);
            for since in [0, 1, revision / 2, revision.saturating_sub(3), revision - 1, revision, revision + 5] {
                let known = states.get(since).unwrap_or(&states[0]);
                assert_eq!(read(&next, since as u64, known), states[revision], "revision {revision}, since {since}");
            }
            assert!(next.logged <= 2 * next.first + SHORT + 2, "the log is {} long", next.logged);
            ledger = Some(Arc::new(next));
        }
    }

    #[test]
    fn a_change_costs_its_own_size() {
        let all = (0..5000).map(|key| part(key, Some(0))).collect();
        let ledger = Arc::new(Ledger::after(None, all));
        let next = Ledger::after(Some(Arc::clone(&ledger)), vec![part(3, Some(1))]);
        assert_eq!((next.parts.len(), next.changed_since(1).1.len()), (1, 1));
        assert!(next.before.as_ref().is_some_and(|before| Arc::ptr_eq(before, &ledger)));
    }
}
