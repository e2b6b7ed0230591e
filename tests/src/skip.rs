//! Saying that a test could not be done here, and why.

use std::io::Write;

/// Writes the line that `tests/run` counts. It bypasses the test runner, which would keep a passing test's output.
pub fn skip(test: &str, reason: &str) {
    // Nothing is left to do where even the error stream is closed.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
}

/// Whether the tests run with root's rights.
pub fn is_root() -> bool {
    // SAFETY: geteuid(2) only reads and cannot fail.
    unsafe { libc::geteuid() == 0 }
}
