//! The safe point: a function that the host may call where none of its invariants is open, as between two frames. While a
//! reload is due, whoever calls it stays inside until the reload is done.
//!
//! Hosts declare it weak (`void superreload_safepoint(void) __attribute__((weak));`), so that they run without the agent too.
//! Only those threads are waited for that have called it before. With nothing due a call reads two words.

use std::{
    cell::Cell,
    path::Path,
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{errno, set_errno};

/// Odd while threads are held; each hold has a number of its own.
static HOLD: AtomicU32 = AtomicU32::new(0);

/// Threads that are waited for. One that finds no room is held too, but nobody waits for it.
const MOST_THREADS: usize = 256;
static THREADS: [Caller; MOST_THREADS] =
    [const { Caller { thread: AtomicU32::new(0), held: AtomicU32::new(0) } }; MOST_THREADS];

struct Caller {
    /// Its thread id; 0: free.
    thread: AtomicU32,
    /// The number of the hold it stands in or stood in last.
    held: AtomicU32,
}

/// Not one of [`THREADS`].
const UNKNOWN: usize = usize::MAX;
const NO_ROOM: usize = usize::MAX - 1;

thread_local! {
    /// The calling thread's place in [`THREADS`].
    static PLACE: Cell<usize> = const { Cell::new(UNKNOWN) };
}

/// For the host, see above.
#[unsafe(no_mangle)]
pub extern "C" fn superreload_safepoint() {
    if PLACE.get() == UNKNOWN || HOLD.load(Ordering::Relaxed) & 1 != 0 {
        arrive();
    }
}

#[cold]
fn arrive() {
    let saved = errno();
    if PLACE.get() == UNKNOWN {
        PLACE.set(register());
    }
    let hold = HOLD.load(Ordering::Acquire);
    if hold & 1 != 0 {
        if let Some(caller) = THREADS.get(PLACE.get()) {
            // Everything that this thread did before is seen by whoever finds it here.
            caller.held.store(hold, Ordering::Release);
        }
        while HOLD.load(Ordering::Acquire) == hold {
            let forever = ptr::null::<libc::timespec>();
            // SAFETY: waits on a static of ours while it still has the value seen.
            unsafe {
                let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
                libc::syscall(libc::SYS_futex, HOLD.as_ptr(), operation, hold, forever)
            };
        }
    }
    set_errno(saved);
}

fn register() -> usize {
    // SAFETY: cannot fail.
    let own = unsafe { libc::syscall(libc::SYS_gettid) } as u32;
    let free = |caller: &Caller| {
        let taken = caller.thread.compare_exchange(0, own, Ordering::AcqRel, Ordering::Relaxed);
        taken.is_ok()
    };
    THREADS.iter().position(free).unwrap_or(NO_ROOM)
}

/// Holds back every thread that calls from now on. Only the agent's thread calls this and what follows.
pub fn hold() {
    if HOLD.load(Ordering::Relaxed) & 1 == 0 {
        HOLD.fetch_add(1, Ordering::AcqRel);
    }
}

pub fn is_holding() -> bool {
    HOLD.load(Ordering::Relaxed) & 1 != 0
}

/// How many threads stand in the safe point of this hold, and how many of those that have ever called it do not.
pub fn standing() -> (u32, u32) {
    let hold = HOLD.load(Ordering::Acquire);
    let (mut held, mut missing) = (0, 0);
    for caller in &THREADS {
        let thread = caller.thread.load(Ordering::Acquire);
        if thread == 0 {
            continue;
        }
        if caller.held.load(Ordering::Acquire) == hold {
            held += 1;
        } else if Path::new(&format!("/proc/self/task/{thread}")).exists() {
            missing += 1;
        } else {
            // It has ended, and its place in the table with it.
            caller.thread.store(0, Ordering::Release);
        }
    }
    (held, missing)
}

/// Lets everybody go on.
pub fn release() {
    if is_holding() {
        HOLD.fetch_add(1, Ordering::AcqRel);
        // SAFETY: wakes whoever waits on a static of ours.
        unsafe {
            let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
            libc::syscall(libc::SYS_futex, HOLD.as_ptr(), operation, libc::c_int::MAX)
        };
    }
}

/// In a forked child there is one thread, with an id of its own, and nobody to let it go.
pub fn forget_in_child() {
    for caller in &THREADS {
        caller.thread.store(0, Ordering::Relaxed);
    }
    HOLD.store(0, Ordering::Relaxed);
    PLACE.set(UNKNOWN);
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::{hold, release, standing, superreload_safepoint};

    #[test]
    fn callers_stay_until_they_are_let_go() {
        let (tell, told) = mpsc::channel();
        let caller = thread::spawn(move || {
            for turn in 0.. {
                superreload_safepoint();
                if tell.send(turn).is_err() {
                    return;
                }
            }
        });
        told.recv().expect("nothing is due");
        hold();
        while standing() != (1, 0) {
            thread::sleep(Duration::from_millis(1));
        }
        while told.try_recv().is_ok() {}
        assert!(told.recv_timeout(Duration::from_millis(50)).is_err(), "it went on");
        release();
        told.recv().expect("it goes on");
        // As long as it has not come back it is missed, whatever it did last time.
        drop(told);
        caller.join().expect("no panic");
        hold();
        assert_eq!(standing(), (0, 0), "it has ended");
        release();
    }
}
