//! The ledger: the engine's bytes and their revision.
//!
//! In a static, not in the server: a forked child has the generations of its parent in its memory, and its own agent, should it
//! get one, must go on from their ledger. So it changes in the same instant as the code, by the exchange of one pointer. Only the
//! agent's thread calls anything here but [`publish`], which a forked child finishing its parent's commit may call too.

use std::{
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

struct Ledger {
    revision: u64,
    bytes: Vec<u8>,
}

/// Null is revision 0 and no bytes.
static CURRENT: AtomicPtr<Ledger> = AtomicPtr::new(ptr::null_mut());
/// What [`publish`] will make the current one.
static NEXT: AtomicPtr<Ledger> = AtomicPtr::new(ptr::null_mut());
/// The one before; freed when nothing is stopped.
static BEFORE: AtomicPtr<Ledger> = AtomicPtr::new(ptr::null_mut());

pub fn revision() -> u64 {
    current().map_or(0, |ledger| ledger.revision)
}

pub fn bytes() -> Vec<u8> {
    current().map_or_else(Vec::new, |ledger| ledger.bytes.clone())
}

pub fn replace(bytes: Vec<u8>) {
    prepare(bytes);
    publish();
}

/// Makes the ledger ready that a commit will publish.
pub fn prepare(bytes: Vec<u8>) {
    let next = Box::new(Ledger { revision: revision() + 1, bytes });
    free(NEXT.swap(Box::into_raw(next), Ordering::AcqRel));
    free(BEFORE.swap(ptr::null_mut(), Ordering::AcqRel));
}

/// Makes what was prepared the ledger, if something was. Neither allocates nor frees.
pub fn publish() {
    let next = NEXT.swap(ptr::null_mut(), Ordering::AcqRel);
    if !next.is_null() {
        BEFORE.store(CURRENT.swap(next, Ordering::AcqRel), Ordering::Release);
    }
}

fn current() -> Option<&'static Ledger> {
    // SAFETY: null, or a box that is freed by nobody but the calling thread, in `prepare`, two exchanges later; no caller keeps
    // the reference.
    unsafe { CURRENT.load(Ordering::Acquire).as_ref() }
}

fn free(ledger: *mut Ledger) {
    if !ledger.is_null() {
        // SAFETY: a box's pointer that no static holds any more.
        drop(unsafe { Box::from_raw(ledger) });
    }
}
