//! The functions of the interpreter that runs in this process, looked up by name.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    sync::OnceLock,
};

/// `PyObject`; only its address means something here.
pub type Object = *mut c_void;
pub type Pending = unsafe extern "C" fn(argument: *mut c_void) -> c_int;

macro_rules! api {
    ($($field:ident = $name:literal: $type:ty,)*) => {
        /// One interpreter's functions.
        pub struct Api { $(pub $field: $type,)* }

        impl Api {
            fn look_up() -> Result<Api, String> {
                Ok(Api {
                    $($field: {
                        let address = find($name).ok_or_else(|| {
                            format!("the interpreter has no `{}`", $name.to_string_lossy())
                        })?;
                        // SAFETY: the documented type of the function or variable of this name.
                        unsafe { std::mem::transmute_copy::<*mut c_void, $type>(&address) }
                    },)*
                })
            }
        }
    };
}

api! {
    is_initialized = c"Py_IsInitialized": unsafe extern "C" fn() -> c_int,
    add_pending_call = c"Py_AddPendingCall": unsafe extern "C" fn(Pending, *mut c_void) -> c_int,
    // Of an interpreter that is ending, it ends the thread.
    ensure = c"PyGILState_Ensure": unsafe extern "C-unwind" fn() -> c_int,
    release = c"PyGILState_Release": unsafe extern "C-unwind" fn(c_int),
    first_interpreter = c"PyInterpreterState_Head": unsafe extern "C" fn() -> *mut c_void,
    next_interpreter = c"PyInterpreterState_Next": unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    fetch_error = c"PyErr_Fetch": unsafe extern "C" fn(*mut Object, *mut Object, *mut Object),
    restore_error = c"PyErr_Restore": unsafe extern "C" fn(Object, Object, Object),
    clear_error = c"PyErr_Clear": unsafe extern "C" fn(),
    set_error = c"PyErr_SetString": unsafe extern "C" fn(Object, *const c_char),
    runtime_error = c"PyExc_RuntimeError": *const Object,
    none = c"_Py_NoneStruct": Object,
    type_type = c"PyType_Type": Object,
    builtins = c"PyEval_GetBuiltins": unsafe extern "C" fn() -> Object,
    compile = c"Py_CompileString": unsafe extern "C" fn(*const c_char, *const c_char, c_int) -> Object,
    evaluate = c"PyEval_EvalCode": unsafe extern "C" fn(Object, Object, Object) -> Object,
    call = c"PyObject_CallObject": unsafe extern "C" fn(Object, Object) -> Object,
    text_of = c"PyObject_Str": unsafe extern "C" fn(Object) -> Object,
    dict_new = c"PyDict_New": unsafe extern "C" fn() -> Object,
    dict_get = c"PyDict_GetItemString": unsafe extern "C" fn(Object, *const c_char) -> Object,
    dict_set_text = c"PyDict_SetItemString": unsafe extern "C" fn(Object, *const c_char, Object) -> c_int,
    dict_set = c"PyDict_SetItem": unsafe extern "C" fn(Object, Object, Object) -> c_int,
    dict_delete = c"PyDict_DelItem": unsafe extern "C" fn(Object, Object) -> c_int,
    tuple_new = c"PyTuple_New": unsafe extern "C" fn(isize) -> Object,
    tuple_size = c"PyTuple_Size": unsafe extern "C" fn(Object) -> isize,
    tuple_get = c"PyTuple_GetItem": unsafe extern "C" fn(Object, isize) -> Object,
    tuple_set = c"PyTuple_SetItem": unsafe extern "C" fn(Object, isize, Object) -> c_int,
    list_size = c"PyList_Size": unsafe extern "C" fn(Object) -> isize,
    list_get = c"PyList_GetItem": unsafe extern "C" fn(Object, isize) -> Object,
    text = c"PyUnicode_AsUTF8AndSize": unsafe extern "C" fn(Object, *mut isize) -> *const c_char,
    bytes_new = c"PyBytes_FromStringAndSize": unsafe extern "C" fn(*const c_char, isize) -> Object,
    bytes_get = c"PyBytes_AsStringAndSize": unsafe extern "C" fn(Object, *mut *mut c_char, *mut isize) -> c_int,
    number_new = c"PyLong_FromUnsignedLongLong": unsafe extern "C" fn(u64) -> Object,
    number_get = c"PyLong_AsUnsignedLongLong": unsafe extern "C" fn(Object) -> u64,
    boolean_new = c"PyBool_FromLong": unsafe extern "C" fn(isize) -> Object,
    function_new = c"PyCFunction_NewEx": unsafe extern "C" fn(*const c_void, Object, Object) -> Object,
    type_ready = c"PyType_Ready": unsafe extern "C" fn(Object) -> c_int,
    type_modified = c"PyType_Modified": unsafe extern "C" fn(Object),
    module_state = c"PyModule_GetState": unsafe extern "C" fn(Object) -> *mut c_void,
    module_definition = c"PyModule_GetDef": unsafe extern "C" fn(Object) -> *mut c_void,
    state_find = c"PyState_FindModule": unsafe extern "C" fn(*mut c_void) -> Object,
    state_add = c"PyState_AddModule": unsafe extern "C" fn(Object, *mut c_void) -> c_int,
    state_remove = c"PyState_RemoveModule": unsafe extern "C" fn(*mut c_void) -> c_int,
    keep = c"Py_IncRef": unsafe extern "C" fn(Object),
    drop = c"Py_DecRef": unsafe extern "C" fn(Object),
}

// SAFETY: functions and addresses of objects that exist once; who calls them holds the interpreter.
unsafe impl Send for Api {}
// SAFETY: as above.
unsafe impl Sync for Api {}

impl Api {
    /// Of the interpreter in this process, which must be running.
    pub fn find() -> Result<&'static Api, String> {
        static API: OnceLock<Result<Api, String>> = OnceLock::new();
        let api = API.get_or_init(Api::look_up).as_ref().map_err(Clone::clone)?;
        // SAFETY: may be called at any time.
        if unsafe { (api.is_initialized)() } == 0 {
            return Err("the interpreter in this process is not running".to_owned());
        }
        Ok(api)
    }
}

impl Api {
    /// How many interpreters there are in this process. The calling thread is in one of them.
    pub fn interpreters(&self) -> usize {
        let following = |last: &*mut c_void| {
            // SAFETY: as of the first one.
            let next = unsafe { (self.next_interpreter)(*last) };
            (!next.is_null()).then_some(next)
        };
        // SAFETY: in the interpreter; none begins or ends while this thread holds the lock that they share. From Python 3.12 on
        // they may have locks of their own; then the count may be late by one.
        let first = unsafe { (self.first_interpreter)() };
        std::iter::successors(Some(first).filter(|first| !first.is_null()), following).count()
    }
}

/// In the executable and what it is linked with, or in a library of Python's that was loaded privately.
fn find(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a terminated name.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if !address.is_null() {
        return Some(address);
    }
    let library = private_library()?;
    // SAFETY: a handle that is never closed, and a terminated name.
    let address = unsafe { libc::dlsym(library as *mut c_void, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

/// The handle of a `libpython` that an embedding program loaded with `RTLD_LOCAL`.
fn private_library() -> Option<usize> {
    static LIBRARY: OnceLock<Option<usize>> = OnceLock::new();
    *LIBRARY.get_or_init(|| {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let path = maps.lines().find_map(|line| {
            let path = &line[line.find('/')?..];
            path.rsplit('/').next()?.starts_with("libpython").then_some(path)
        })?;
        let path = std::ffi::CString::new(path).ok()?;
        // SAFETY: a terminated path; NOLOAD only finds what is loaded already.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
        (!handle.is_null()).then_some(handle as usize)
    })
}
