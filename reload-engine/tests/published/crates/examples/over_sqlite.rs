//! A library with SQLite inside.

use std::{ffi::c_int, ptr, sync::Mutex};

static RUNS: Mutex<Vec<c_int>> = Mutex::new(Vec::new());

#[unsafe(no_mangle)]
pub extern "C" fn run() -> c_int {
    let mut connection = ptr::null_mut();
    // SAFETY: the names end in 0, and the connection is closed once.
    let status = unsafe {
        libsqlite3_sys::sqlite3_open(c":memory:".as_ptr(), &mut connection);
        let text = c"create table t(x); insert into t values (1); select count(*) from t;";
        let status =
            libsqlite3_sys::sqlite3_exec(connection, text.as_ptr(), None, ptr::null_mut(), ptr::null_mut());
        libsqlite3_sys::sqlite3_close(connection);
        status
    };
    RUNS.lock().unwrap().push(status);
    status
}
