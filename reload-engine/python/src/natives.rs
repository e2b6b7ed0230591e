//! What the script cannot do in Python: looking at memory without faulting, writing to it, and the few calls of the C
//! interface that have no other name.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    ptr,
    sync::atomic::{AtomicBool, AtomicPtr, Ordering},
};

use crate::{
    api::{Api, Object},
    removed,
};

const VARARGS: c_int = 1;
/// `m_size` in `PyModuleDef`.
const MODULE_STATE_SIZE: usize = 56;

/// `PyMethodDef`.
#[repr(C)]
pub struct Definition {
    name: *const c_char,
    code: unsafe extern "C" fn(Object, Object) -> Object,
    flags: c_int,
    doc: *const c_char,
}

// SAFETY: constants.
unsafe impl Sync for Definition {}

macro_rules! natives {
    ($($name:ident),* $(,)?) => {
        /// The functions that the script finds in `natives`.
        pub static DEFINITIONS: &[Definition] = &[$(Definition {
            name: match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name.as_ptr(),
                Err(_) => panic!("a name without NUL"),
            },
            code: {
                unsafe extern "C" fn called(_: Object, arguments: Object) -> Object {
                    call(arguments, $name)
                }
                called
            },
            flags: VARARGS,
            doc: ptr::null(),
        }),*];
    };
}

natives!(peek, poke, memory, object, ready, function, state, stand_in, removed_code, seen);

impl Definition {
    pub fn name(&self) -> *const c_char {
        self.name
    }
}

/// Set when the script is about to show the interpreter something of the new image.
static SEEN: AtomicPtr<AtomicBool> = AtomicPtr::new(ptr::null_mut());

/// `seen` is set from now on; only one conversation is held at a time.
pub fn watch(seen: &AtomicBool) {
    SEEN.store(ptr::from_ref(seen).cast_mut(), Ordering::Release);
}

type Native = fn(&Api, &Arguments<'_>) -> Result<Object, String>;

/// The positional arguments of a call from the script.
struct Arguments<'a> {
    api: &'a Api,
    tuple: Object,
}

impl Arguments<'_> {
    fn object(&self, index: usize) -> Result<Object, String> {
        // SAFETY: in the interpreter, with the tuple that it passed; the answer is borrowed from it.
        let object = unsafe { (self.api.tuple_get)(self.tuple, index as isize) };
        if object.is_null() { Err(format!("argument {index} is missing")) } else { Ok(object) }
    }

    fn number(&self, index: usize) -> Result<u64, String> {
        let object = self.object(index)?;
        // SAFETY: in the interpreter. What is no such number gives one that no address has, and the error is cleared.
        Ok(unsafe {
            let number = (self.api.number_get)(object);
            (self.api.clear_error)();
            number
        })
    }

    fn bytes(&self, index: usize) -> Result<&[u8], String> {
        bytes_of(self.api, self.object(index)?).ok_or_else(|| format!("argument {index} is no bytes"))
    }
}

/// The contents of a bytes object, as long as that lives.
pub fn bytes_of<'a>(api: &Api, object: Object) -> Option<&'a [u8]> {
    let (mut start, mut len) = (ptr::null_mut(), 0);
    // SAFETY: in the interpreter, with places for the answers.
    let status = unsafe { (api.bytes_get)(object, &mut start, &mut len) };
    // SAFETY: what the interpreter has just told of an object that the caller holds.
    (status == 0).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), len as usize) })
}

fn call(tuple: Object, native: Native) -> Object {
    let Ok(api) = Api::find() else { return ptr::null_mut() };
    match native(api, &Arguments { api, tuple }) {
        Ok(object) => object,
        Err(reason) => {
            let reason = std::ffi::CString::new(reason).unwrap_or_default();
            // SAFETY: in the interpreter; the message is terminated.
            unsafe { (api.set_error)(*api.runtime_error, reason.as_ptr()) };
            ptr::null_mut()
        }
    }
}

fn none(api: &Api) -> Object {
    // SAFETY: a new reference to what lives for ever.
    unsafe { (api.keep)(api.none) };
    api.none
}

fn number(api: &Api, number: u64) -> Object {
    // SAFETY: in the interpreter.
    unsafe { (api.number_new)(number) }
}

/// `peek(address, len)`: the bytes there, or None where not all of them can be read.
fn peek(api: &Api, arguments: &Arguments<'_>) -> Result<Object, String> {
    let (address, len) = (arguments.number(0)?, arguments.number(1)? as usize);
    let mut small = [0u8; 64];
    let mut large = Vec::new();
    let place = if len <= small.len() {
        &mut small[..len]
    } else {
        large.resize(len, 0);
        &mut large[..]
    };
    if !read(address, place) {
        return Ok(none(api));
    }
    // SAFETY: in the interpreter, which copies.
    Ok(unsafe { (api.bytes_new)(place.as_ptr().cast(), len as isize) })
}

/// `poke(address, bytes)`.
fn poke(api: &Api, arguments: &Arguments<'_>) -> Result<Object, String> {
    write(arguments.number(0)?, arguments.bytes(1)?)?;
    Ok(none(api))
}

/// `memory(bytes)`: the address of a copy that is never freed.
fn memory(api: &Api, arguments: &Arguments<'_>) -> Result<Object, String> {
    let words: Vec<u64> = arguments
        .bytes(0)?
        .chunks(8)
        .map(|part| part.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
        .collect();
    Ok(number(api, Box::leak(words.into_boxed_slice()).as_ptr() as u64))
}

/// `object(address)`: the object there.
fn object(api: &Api, arguments: &Arguments<'_>) -> Result<Object, String> {
    let object = arguments.number(0)? as Object;
    // SAFETY: the script has made sure that it is one, by its type.
    unsafe { (api.keep)(object) };
    Ok(object)
}

/// `ready(address)`: `PyType_Ready`.
fn ready(api: &Api, arguments: &Arguments<'_>) -> Result<Object, String> {
    let object = arguments.number(0)? as Object;
    // SAFETY: the new image's copy of a static type, which nobody else uses.
    if unsafe { (api.type_ready)(object) } != 0 {
        // SAFETY: in the interpreter.
        unsafe { (api.clear_error)() };
        return Err("the new version of a static type cannot be made ready".to_owned());
    }
    Ok(none(api))
}

/// `function(definition)`: a function object made from it.
fn function(api: &Api, arguments: &Arguments<'_>) -> Result<Object, String> {
    let definition = arguments.number(0)? as *const c_void;
    // SAFETY: the script found the definition in a function object or descriptor.
    let made = unsafe { (api.function_new)(definition, ptr::null_mut(), ptr::null_mut()) };
    if made.is_null() {
        // SAFETY: in the interpreter.
        unsafe { (api.clear_error)() };
        return Err("a method's definition is not valid".to_owned());
    }
    Ok(made)
}

/// `state(module)`: address and size of its state, or zeros.
fn state(api: &Api, arguments: &Arguments<'_>) -> Result<Object, String> {
    let module = arguments.object(0)?;
    // SAFETY: in the interpreter; for what is no module both answer null and an error.
    let (state, definition) = unsafe { ((api.module_state)(module), (api.module_definition)(module)) };
    // SAFETY: in the interpreter.
    unsafe { (api.clear_error)() };
    let mut size = [0; 8];
    if state.is_null() || definition.is_null() || !read(definition as u64 + MODULE_STATE_SIZE as u64, &mut size) {
        size = [0; 8];
    }
    // SAFETY: in the interpreter; the tuple takes over both references.
    unsafe {
        let pair = (api.tuple_new)(2);
        (api.tuple_set)(pair, 0, number(api, state as u64));
        (api.tuple_set)(pair, 1, number(api, u64::from_le_bytes(size)));
        Ok(pair)
    }
}

/// `stand_in(donor, live)`: where the new image asks for its module by the definition, it gets the live one.
fn stand_in(api: &Api, arguments: &Arguments<'_>) -> Result<Object, String> {
    let (donor, live) = (arguments.object(0)?, arguments.object(1)?);
    // SAFETY: in the interpreter, with objects that the script holds; an error is no more than "there is none".
    unsafe {
        let definition = (api.module_definition)(donor);
        if !definition.is_null() && (api.state_find)(definition) == donor {
            (api.state_remove)(definition);
            (api.state_add)(live, definition);
        }
        (api.clear_error)();
    }
    Ok(none(api))
}

/// `removed_code(name)`: code that raises.
fn removed_code(api: &Api, arguments: &Arguments<'_>) -> Result<Object, String> {
    let name = arguments.object(0)?;
    let name = text_of(api, name).unwrap_or_default();
    Ok(number(api, removed::code_for(&name) as u64))
}

/// `seen()`: from here on the new image must stay loaded.
fn seen(api: &Api, _: &Arguments<'_>) -> Result<Object, String> {
    // SAFETY: `watch` was given it by the conversation that this call belongs to, which waits for its end.
    if let Some(seen) = unsafe { SEEN.load(Ordering::Acquire).as_ref() } {
        seen.store(true, Ordering::Release);
    }
    Ok(none(api))
}

/// The text of a `str`.
pub fn text_of(api: &Api, object: Object) -> Option<String> {
    let mut len = 0;
    // SAFETY: in the interpreter, with a place for the length.
    let text = unsafe { (api.text)(object, &mut len) };
    if text.is_null() {
        // SAFETY: in the interpreter.
        unsafe { (api.clear_error)() };
        return None;
    }
    // SAFETY: what the interpreter has just told of an object that the caller holds.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len as usize) };
    Some(String::from_utf8_lossy(bytes).into_owned())
}

/// Reads through the kernel, which checks what a plain load cannot.
fn read(address: u64, place: &mut [u8]) -> bool {
    let local = libc::iovec { iov_base: place.as_mut_ptr().cast(), iov_len: place.len() };
    let remote = libc::iovec { iov_base: address as *mut c_void, iov_len: place.len() };
    // SAFETY: `local` describes `place`; the kernel answers EFAULT where `remote` is not readable.
    let got = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
    got >= 0 && got as usize == place.len()
}

/// Writes where the script has found an object or a table; read-only pages (tables of constants) are opened for it.
pub fn write(address: u64, bytes: &[u8]) -> Result<(), String> {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: address as *mut c_void, iov_len: bytes.len() };
    // SAFETY: `local` describes `bytes`; the kernel answers EFAULT where `remote` is not writable.
    let put = unsafe { libc::process_vm_writev(libc::getpid(), &local, 1, &remote, 1, 0) };
    if put >= 0 && put as usize == bytes.len() {
        return Ok(());
    }
    let protection = protection(address).ok_or_else(|| format!("nothing is mapped at {address:#x}"))?;
    let start = address & !0xfff;
    let len = (address + bytes.len() as u64 - start) as usize;
    let protect = |protection| {
        // SAFETY: pages of this process that hold what is to be written.
        unsafe { libc::mprotect(start as *mut c_void, len, protection) == 0 }
    };
    if !protect(protection | libc::PROT_WRITE) {
        return Err(format!("{address:#x} cannot be made writable"));
    }
    // SAFETY: mapped and writable as of now; in the interpreter, so that nobody else changes it meanwhile.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) };
    protect(protection);
    Ok(())
}

/// How the memory at `address` is mapped.
fn protection(address: u64) -> Option<c_int> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let number = |text| u64::from_str_radix(text, 16).unwrap_or(0);
        range.is_some_and(|(start, end)| (number(start)..number(end)).contains(&address))
    })?;
    let letters = line.split(' ').nth(1)?;
    let bits = [('r', libc::PROT_READ), ('w', libc::PROT_WRITE), ('x', libc::PROT_EXEC)];
    Some(bits.into_iter().filter(|(letter, _)| letters.contains(*letter)).fold(0, |all, (_, bit)| all | bit))
}
