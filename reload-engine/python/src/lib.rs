//! What of a Python extension's reload must happen inside the interpreter, as a library that the agent loads into targets
//! that are Python: entering the interpreter, telling what is prepared, and taking the prepared steps after the commit.
//!
//! What is to be done is worked out by a script in the interpreter's own language (the folder `adapt`). Nothing is linked against
//! Python: its functions are looked up in the running process. Deliberately absent: ELF, sockets, policy.

mod api;
mod entrance;
mod natives;
mod removed;
mod script;

use std::{
    ffi::c_void,
    panic::{self, AssertUnwindSafe},
    slice,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api::Api;
use script::Script;

/// How long the interpreter may be busy in a call that does not give it free.
const PATIENCE: Duration = Duration::from_secs(5);

type Prepared = extern "C" fn(context: *const c_void, words: *const u8, len: usize) -> bool;
type Ended = extern "C" fn(context: *const c_void, words: *const u8, len: usize, seen: bool);

/// The agent's end of the conversation.
#[derive(Clone, Copy)]
struct Agent {
    context: *const c_void,
    prepared: Prepared,
    ended: Ended,
}

// SAFETY: the agent waits for the conversation's end, and its functions may be called from any thread.
unsafe impl Send for Agent {}

impl Agent {
    fn prepared(&self, words: &str) -> bool {
        (self.prepared)(self.context, words.as_ptr(), words.len())
    }

    fn ended(&self, words: &str, seen: bool) {
        (self.ended)(self.context, words.as_ptr(), words.len(), seen);
    }
}

/// The whole conversation: `input` is what the engine has written for that script. Returns when it has ended.
///
/// # Safety
/// `input` has `len` bytes, and `context` is what `prepared` and `ended` expect, until this returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn reload_adapt(
    input: *const u8,
    len: usize,
    context: *const c_void,
    prepared: Prepared,
    ended: Ended,
) {
    // SAFETY: the caller's promise.
    let input = unsafe { slice::from_raw_parts(input, len) }.to_vec();
    let agent = Agent { context, prepared, ended };
    let told = panic::catch_unwind(AssertUnwindSafe(|| converse(input, agent)));
    let (words, seen) = told.unwrap_or_else(|_| ("failed\tthe adapter made a mistake (panic)\n".to_owned(), true));
    agent.ended(&words, seen);
}

/// What it says last, and whether the interpreter has seen anything of the new image.
fn converse(input: Vec<u8>, agent: Agent) -> (String, bool) {
    let api = match Api::find() {
        Ok(api) => api,
        Err(reason) => return (format!("warning\t{reason}: only native code is reloaded\n"), false),
    };
    let outcome = Arc::new(Outcome::default());
    let told = Arc::clone(&outcome);
    let work = move || {
        let words = panic::catch_unwind(AssertUnwindSafe(|| adapt(api, &input, agent, &told.seen)));
        let words = words.unwrap_or_else(|_| "failed\tthe adapter made a mistake (panic)\n".to_owned());
        let _ = told.words.set(words);
    };
    if let Err(reason) = entrance::enter(api, PATIENCE, work) {
        return (format!("failed\t{reason}\n"), false);
    }
    let words = outcome.words.get().cloned().unwrap_or_default();
    (words, outcome.seen.load(Ordering::Acquire))
}

#[derive(Default)]
struct Outcome {
    words: std::sync::OnceLock<String>,
    seen: AtomicBool,
}

/// In the interpreter: prepare, wait for the commit, take the steps.
fn adapt(api: &'static Api, input: &[u8], agent: Agent, seen: &AtomicBool) -> String {
    let interpreters = api.interpreters();
    if interpreters > 1 {
        // What they share of a library (its tables of methods, its static types) would change for all, the rest for one.
        return format!(
            "refused\t{interpreters} interpreters run in this process, and an extension can be adapted in one only\n"
        );
    }
    natives::watch(seen);
    let script = match Script::get(api) {
        Ok(script) => script,
        Err(reason) => return format!("failed\t{reason}\n"),
    };
    let prepared = match script.prepare(input) {
        Ok(prepared) => prepared,
        Err(reason) => return format!("failed\t{reason}\n"),
    };
    let Some(steps) = prepared.steps else { return prepared.words };
    let committed = agent.prepared(&prepared.words);
    let mut words = String::new();
    if committed {
        for trouble in script.take(&steps) {
            words.push_str(&format!("warning\t{trouble}\n"));
        }
    }
    script.settle(committed);
    words
}
