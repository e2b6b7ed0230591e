//! A conversation with an adapter: a library of the engine's that brings a language's runtime in step with a reload.
//!
//! The adapter runs on a thread of its own. It prepares everything and says so, then waits for the commit, holding what it
//! needs to hold; committed or not, it carries out or drops what it prepared, says so, and ends. Should the dashboard die in
//! between, the conversation goes on without it. What is said is for the engine and not looked at here.

use std::{
    ffi::c_void,
    mem::ManuallyDrop,
    slice,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use libloading::os::unix::Library;

use crate::shadow::loader_message;

/// How long an adapter, and the part of the host that it holds, waits for the commit.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the adapter's library exports.
const ENTRY: &[u8] = b"reload_adapt\0";

/// Tells that everything is prepared, and returns whether it has been committed.
type Prepared = extern "C" fn(context: *const c_void, words: *const u8, len: usize) -> bool;
/// Tells how it ended, and whether the host's runtime has seen anything of the shadow.
type Ended = extern "C" fn(context: *const c_void, words: *const u8, len: usize, seen: bool);
type Entry =
    unsafe extern "C" fn(input: *const u8, len: usize, context: *const c_void, prepared: Prepared, ended: Ended);

/// The agent's end of it.
pub struct Conversation {
    stage: Mutex<Stage>,
    changed: Condvar,
}

/// The adapter's end. Dropped, it has ended.
pub struct Speaker {
    conversation: Arc<Conversation>,
    path: String,
    input: Vec<u8>,
}

#[derive(Default)]
struct Stage {
    prepared: Option<Vec<u8>>,
    ended: Option<Vec<u8>>,
    seen: bool,
    verdict: Verdict,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Verdict {
    #[default]
    Open,
    /// Threads are about to be stopped: no longer to be given up.
    Committing,
    Committed,
    Dropped,
}

/// With the adapter that the loader finds at `path`, about `input`. It begins with [`Speaker::speak`].
pub fn conversation(path: String, input: Vec<u8>) -> (Arc<Conversation>, Speaker) {
    let conversation = Arc::new(Conversation { stage: Mutex::default(), changed: Condvar::new() });
    (Arc::clone(&conversation), Speaker { conversation, path, input })
}

impl Speaker {
    /// The whole conversation, on a thread for it alone.
    pub fn speak(self) {
        if let Err(reason) = self.run() {
            self.conversation.end(format!("failed\t{reason}\n").into_bytes(), false);
        }
    }

    fn run(&self) -> Result<(), String> {
        // SAFETY: a library of the engine's own, which has no constructors; it stays loaded.
        let library = unsafe { Library::open(Some(&self.path), libc::RTLD_NOW | libc::RTLD_LOCAL) }
            .map_err(|error| loader_message(&error))?;
        let library = ManuallyDrop::new(library);
        // SAFETY: the engine's library exports this function with this type.
        let entry = unsafe { library.get::<Entry>(ENTRY) }.map_err(|error| loader_message(&error))?;
        let context = Arc::as_ptr(&self.conversation).cast();
        // SAFETY: the input and the conversation outlive the call, which returns only when the conversation has ended.
        unsafe { entry(self.input.as_ptr(), self.input.len(), context, prepared, ended) };
        Ok(())
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        // Counts only where nothing was said: then it is unknown what happened.
        self.conversation.end(b"failed\tthe adapter did not come to its end\n".to_vec(), true);
    }
}

impl Conversation {
    /// What it said, once it is prepared or has ended.
    pub fn preparation(&self) -> Option<Vec<u8>> {
        let stage = self.stage();
        stage.prepared.clone().or_else(|| stage.ended.clone())
    }

    /// What it said last, once it has ended.
    pub fn ending(&self) -> Option<Vec<u8>> {
        self.stage().ended.clone()
    }

    /// Whether what was loaded may be in use by the host, committed or not.
    pub fn may_use_shadow(&self) -> bool {
        let stage = self.stage();
        stage.ended.is_none() || stage.seen
    }

    /// Before the threads are stopped: from here on it waits for the outcome. `false`: it has waited too long already.
    pub fn hold_fast(&self) -> bool {
        self.decide(Verdict::Open, Verdict::Committing)
    }

    /// The commit did not take place; there may be another attempt.
    pub fn let_go(&self) {
        self.decide(Verdict::Committing, Verdict::Open);
    }

    pub fn commit(&self) {
        self.decide(Verdict::Committing, Verdict::Committed);
    }

    /// There will be no commit.
    pub fn give_up(&self) {
        self.decide(Verdict::Open, Verdict::Dropped);
    }

    fn decide(&self, from: Verdict, to: Verdict) -> bool {
        let mut stage = self.stage();
        let decided = stage.verdict == from;
        if decided {
            stage.verdict = to;
            self.changed.notify_all();
        }
        decided
    }

    fn await_commit(&self, words: Vec<u8>) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut stage = self.stage();
        stage.prepared = Some(words);
        loop {
            match stage.verdict {
                Verdict::Committed => return true,
                Verdict::Dropped => return false,
                Verdict::Open | Verdict::Committing => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() && stage.verdict == Verdict::Open {
                stage.verdict = Verdict::Dropped;
                return false;
            }
            let wait = left.max(Duration::from_millis(10));
            stage = self.changed.wait_timeout(stage, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The first last word counts.
    fn end(&self, words: Vec<u8>, seen: bool) {
        let mut stage = self.stage();
        if stage.ended.is_none() {
            (stage.ended, stage.seen) = (Some(words), seen);
        }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

extern "C" fn prepared(context: *const c_void, words: *const u8, len: usize) -> bool {
    // SAFETY: `run` passed it and waits for the adapter; the adapter passes bytes of its own.
    let (conversation, words) = unsafe { (&*context.cast::<Conversation>(), slice::from_raw_parts(words, len)) };
    conversation.await_commit(words.to_vec())
}

extern "C" fn ended(context: *const c_void, words: *const u8, len: usize, seen: bool) {
    // SAFETY: as in `prepared`.
    let (conversation, words) = unsafe { (&*context.cast::<Conversation>(), slice::from_raw_parts(words, len)) };
    conversation.end(words.to_vec(), seen);
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread, time::Duration};

    use super::conversation;

    #[test]
    fn what_was_prepared_waits_for_the_commit() {
        for committed in [true, false] {
            let (conversation, speaker) = conversation(String::new(), Vec::new());
            let other = Arc::clone(&conversation);
            let waiting = thread::spawn(move || other.await_commit(b"ready".to_vec()));
            while conversation.preparation().is_none() {
                thread::sleep(Duration::from_millis(1));
            }
            assert!(conversation.hold_fast());
            conversation.give_up();
            if committed {
                conversation.commit();
            } else {
                conversation.let_go();
                conversation.give_up();
            }
            assert_eq!(waiting.join().expect("no panic"), committed);
            assert!(!conversation.hold_fast());
            assert!(conversation.ending().is_none());
            drop(speaker);
            assert!(conversation.ending().is_some());
        }
    }
}
