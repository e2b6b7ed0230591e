//! Getting into the interpreter: between two bytecodes of the main thread if it is running Python, else on a thread of our own.
//!
//! A main thread that waits for something (input, events) runs no pending calls but leaves the interpreter free; one that
//! computes in C code holds it. Only the latter is waited for, and not for ever.

use std::{
    ffi::{c_int, c_void},
    ptr,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::api::Api;

/// For the main thread to come by. Code that runs Python does so every few microseconds.
const PENDING: Duration = Duration::from_millis(10);

/// Work for whoever enters first.
struct Visit {
    api: &'static Api,
    /// Taken by the one that does it, or by the one that gives up.
    taken: AtomicBool,
    work: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    stage: Mutex<Stage>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Working,
    Done,
}

/// Does `work` in the interpreter and returns when it is done.
///
/// # Errors
/// The interpreter could not be entered within `patience`; then the work is never done.
pub fn enter(api: &'static Api, patience: Duration, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let visit = Arc::new(Visit {
        api,
        taken: AtomicBool::new(false),
        work: Mutex::new(Some(Box::new(work))),
        stage: Mutex::new(Stage::Waiting),
        changed: Condvar::new(),
    });
    let argument = Arc::into_raw(Arc::clone(&visit)).cast_mut().cast::<c_void>();
    // SAFETY: the interpreter is running; it passes the argument on at most once. A call that it never makes costs a few
    // bytes.
    let queued = unsafe { (api.add_pending_call)(by_main_thread, argument) } == 0;
    if queued && visit.wait(Stage::Waiting, Some(PENDING)) {
        visit.wait(Stage::Working, None);
        return Ok(());
    }
    start_thread(Arc::into_raw(Arc::clone(&visit)))?;
    if !visit.wait(Stage::Waiting, Some(patience)) && visit.take() {
        let seconds = patience.as_secs();
        return Err(format!("the interpreter has been busy in one call of native code for {seconds} s"));
    }
    visit.wait(Stage::Waiting, None);
    visit.wait(Stage::Working, None);
    Ok(())
}

impl Visit {
    fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }

    /// Until it is past `stage`; `false` when that takes longer than `limit`.
    fn wait(&self, stage: Stage, limit: Option<Duration>) -> bool {
        let now = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |now: &mut Stage| *now == stage;
        let now = match limit {
            Some(limit) => self.changed.wait_timeout_while(now, limit, same).unwrap_or_else(PoisonError::into_inner).0,
            None => self.changed.wait_while(now, same).unwrap_or_else(PoisonError::into_inner),
        };
        *now != stage
    }

    fn tell(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
        self.changed.notify_all();
    }

    /// In the interpreter.
    fn work(&self) {
        if !self.take() {
            return;
        }
        self.tell(Stage::Working);
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Whoever runs between two bytecodes may be about to raise or handle an exception.
        let mut error = [ptr::null_mut(); 3];
        let [kind, value, trace] = &mut error;
        // SAFETY: in the interpreter, with places for its answers.
        unsafe { (self.api.fetch_error)(kind, value, trace) };
        if let Some(work) = work {
            work();
        }
        // SAFETY: gives back exactly what was fetched.
        unsafe { (self.api.restore_error)(error[0], error[1], error[2]) };
        self.tell(Stage::Done);
    }
}

unsafe extern "C" fn by_main_thread(argument: *mut c_void) -> c_int {
    // SAFETY: `enter` gave up this reference for this one call.
    let visit = unsafe { Arc::from_raw(argument.cast_const().cast::<Visit>()) };
    visit.work();
    0
}

/// A bare thread: an interpreter that ends meanwhile ends it where it waits, and nothing must be left to be dropped there.
fn start_thread(visit: *const Visit) -> Result<(), String> {
    let mut thread = 0;
    // SAFETY: the type that `pthread_create` expects but for the mark that it may be left by unwinding, as `pthread_exit`
    // does.
    let main = unsafe {
        std::mem::transmute::<
            unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void,
            extern "C" fn(*mut c_void) -> *mut c_void,
        >(by_own_thread)
    };
    // SAFETY: the visit's reference is given up to the new thread.
    let status = unsafe { libc::pthread_create(&mut thread, ptr::null(), main, visit.cast_mut().cast::<c_void>()) };
    if status != 0 {
        // SAFETY: there is no thread that could use it.
        drop(unsafe { Arc::from_raw(visit) });
        return Err(format!("starting a thread: errno {status}"));
    }
    // SAFETY: nobody joins it.
    unsafe { libc::pthread_detach(thread) };
    Ok(())
}

unsafe extern "C-unwind" fn by_own_thread(argument: *mut c_void) -> *mut c_void {
    let visit = argument.cast_const().cast::<Visit>();
    // SAFETY: `start_thread` gave up a reference, which is taken up below; until then nothing here needs dropping.
    let api = unsafe { (*visit).api };
    // SAFETY: the interpreter is running, or ends this thread.
    let state = unsafe { (api.ensure)() };
    // SAFETY: as above.
    unsafe { (*visit).work() };
    // SAFETY: what `ensure` gave.
    unsafe { (api.release)(state) };
    // SAFETY: as above.
    drop(unsafe { Arc::from_raw(visit) });
    ptr::null_mut()
}
