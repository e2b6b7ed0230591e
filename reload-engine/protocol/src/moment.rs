//! Looking for a moment before sleeping, while a target stands still.
//!
//! The stop helper and the agent then ask each other three times, each on a processor of its own, and nobody else of the target
//! needs one. Who sleeps until the other has answered is woken by an interrupt of its processor, which takes 50 to 100
//! microseconds on a virtual machine (measured); the answers take less. At any other time that would be a mistake: the kernel
//! wakes the one on the processor on which the other goes to sleep, in 10 microseconds, and where that one stays awake it cannot.

use std::{
    hint,
    num::NonZero,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// Longer than most answers take.
const MOMENT: Duration = Duration::from_micros(100);

/// What `look` finds within a moment; `None` means that it is time to sleep. It looks once where there is only one processor:
/// there nobody could answer meanwhile.
pub fn look<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        let found = look();
        if found.is_some() || is_alone() || begun.elapsed() > MOMENT {
            return found;
        }
        hint::spin_loop();
    }
}

/// To be called before any thread is stopped: how many processors there are is read from files once, which allocates.
pub fn prepare() {
    is_alone();
}

/// Whether this process has one processor.
fn is_alone() -> bool {
    static ALONE: OnceLock<bool> = OnceLock::new();
    *ALONE.get_or_init(|| thread::available_parallelism().is_ok_and(|processors| processors == NonZero::<usize>::MIN))
}
