//! The clock that every process of the measurement reads.

/// CLOCK_MONOTONIC, in nanoseconds.
pub fn now() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// From now on this thread's short sleeps are as short as they are said.
pub fn sleep_precisely() {
    // SAFETY: changes how this thread's timers are rounded.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}
