//! What is called where a function was removed: it raises, with the function's name.

use std::{
    ffi::{CString, c_void},
    ptr,
    sync::Mutex,
};

use crate::api::{Api, Object};

/// Functions of their own name; all later ones share the last.
const NAMED: usize = 256;

static NAMES: Mutex<Vec<CString>> = Mutex::new(Vec::new());

/// Takes no notice of its arguments, so it fits every way that a function can be called.
unsafe extern "C" fn stub<const N: usize>() -> Object {
    let name = NAMES.lock().ok().and_then(|names| names.get(N).cloned());
    let message = name.unwrap_or_else(|| c"this function was removed by a reload".to_owned());
    if let Ok(api) = Api::find() {
        // SAFETY: called by the interpreter; the message is terminated.
        unsafe { (api.set_error)(*api.runtime_error, message.as_ptr()) };
    }
    ptr::null_mut()
}

macro_rules! sixteen {
    ($($high:literal)*) => {
        [$(
            stub::<{ $high * 16 }>, stub::<{ $high * 16 + 1 }>, stub::<{ $high * 16 + 2 }>, stub::<{ $high * 16 + 3 }>,
            stub::<{ $high * 16 + 4 }>, stub::<{ $high * 16 + 5 }>, stub::<{ $high * 16 + 6 }>, stub::<{ $high * 16 + 7 }>,
            stub::<{ $high * 16 + 8 }>, stub::<{ $high * 16 + 9 }>, stub::<{ $high * 16 + 10 }>, stub::<{ $high * 16 + 11 }>,
            stub::<{ $high * 16 + 12 }>, stub::<{ $high * 16 + 13 }>, stub::<{ $high * 16 + 14 }>, stub::<{ $high * 16 + 15 }>,
        )*]
    };
}

static STUBS: [unsafe extern "C" fn() -> Object; NAMED] = sixteen!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);

/// The code for a removed function of this name.
pub fn code_for(name: &str) -> *const c_void {
    let message = CString::new(format!("`{name}` was removed by a reload")).unwrap_or_default();
    let Ok(mut names) = NAMES.lock() else { return STUBS[NAMED - 1] as *const c_void };
    let known = names.iter().position(|known| *known == message);
    let index = known.unwrap_or_else(|| {
        if names.len() < NAMED - 1 {
            names.push(message);
            names.len() - 1
        } else {
            NAMED - 1
        }
    });
    STUBS[index] as *const c_void
}
