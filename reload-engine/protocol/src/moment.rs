//! Looking for a moment before sleeping, while a target is stopped and stands still.
//!
//! The stop helper waits for the agent then, and once the agent for the helper, each on a processor of its own, and nobody else of
//! the target needs one. Who sleeps until the other has answered is woken by an interrupt of its processor, which takes 50 to 100
//! microseconds on a virtual machine (measured); most answers take as long. At any other time that would be a mistake: the kernel
//! wakes the one on the processor on which the other goes to sleep, in 10 microseconds, and where that one stays awake it cannot;
//! and a thread that is still to be stopped may have to run on this very processor first.

use std::{
    hint,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Longer than most answers take: 20 to 150 microseconds with 2,000 functions to change (measured).
const MOMENT: Duration = Duration::from_micros(250);

/// There is another processor, on which somebody could answer.
static IN_COMPANY: AtomicBool = AtomicBool::new(false);

/// What is `ready` within a moment; `None` means that it is time to sleep. Until [`prepare`] has found a second processor it asks
/// once.
pub fn look<T>(mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        let found = ready();
        if found.is_some() || !IN_COMPANY.load(Ordering::Relaxed) || begun.elapsed() > MOMENT {
            return found;
        }
        hint::spin_loop();
    }
}

/// Looks up how many processors there are, which reads files and allocates: no thread may be stopped.
pub fn prepare() {
    let count = thread::available_parallelism().map_or(1, |count| count.get());
    IN_COMPANY.store(count > 1, Ordering::Relaxed);
}
