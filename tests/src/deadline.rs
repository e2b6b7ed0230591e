//! Waiting for something to become so, never longer than a deadline.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Long enough for a loaded machine with two cores; reached only by a failing test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the answer is there, every few milliseconds; `None` once `limit` has passed.
pub fn until<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(Duration::from_millis(3));
    }
}

/// As [`until`] with [`PATIENCE`]; a deadline that passes fails the test, naming what did not happen.
pub fn wait_for<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    until(PATIENCE, ask).unwrap_or_else(|| panic!("{what}: not within {PATIENCE:?}"))
}

/// As [`wait_for`] what fails until it succeeds; a deadline that passes tells of the last failure.
pub fn wait_for_ok<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let mut complaint = String::new();
    let answer = until(PATIENCE, || ask().map_err(|error| complaint = error).ok());
    answer.unwrap_or_else(|| panic!("{what}: not within {PATIENCE:?}; the last complaint: {complaint}"))
}
