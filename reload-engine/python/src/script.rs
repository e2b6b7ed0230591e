//! The script in the interpreter's own language, and the steps that it leaves to be taken.
//!
//! Steps are taken by native code alone: no bytecode runs between the first and the last, so no other thread of Python sees a
//! half of them.

use std::{
    ffi::{CStr, CString},
    ptr,
    sync::{Mutex, PoisonError},
};

use crate::{
    api::{Api, Object},
    natives::{self, DEFINITIONS, bytes_of, text_of},
};

/// Run in this order, in one namespace.
const SOURCES: [&str; 7] = [
    include_str!("adapt/layout.py"),
    include_str!("adapt/contents.py"),
    include_str!("adapt/versions.py"),
    include_str!("adapt/initialiser.py"),
    include_str!("adapt/pybind11.py"),
    include_str!("adapt/transition.py"),
    include_str!("adapt/reload.py"),
];
/// `Py_file_input` and `Py_eval_input` of `<compile.h>`.
const FILE_INPUT: i32 = 257;
const EVAL_INPUT: i32 = 258;
/// In `PyTypeObject`: `tp_setattro` and `tp_flags`.
const SET_ATTRIBUTE: usize = 152;
const FLAGS: usize = 168;
/// `Py_TPFLAGS_IMMUTABLETYPE`.
const IMMUTABLE: u64 = 1 << 8;

type SetAttribute = unsafe extern "C" fn(Object, Object, Object) -> i32;

/// The script's namespace, which lives as long as the interpreter.
pub struct Script {
    api: &'static Api,
    namespace: Object,
}

/// What the script has worked out.
pub struct Prepared {
    pub words: String,
    /// A list of tuples; `None` where nothing is to be done.
    pub steps: Option<Object>,
}

impl Script {
    /// Runs it, the first time.
    pub fn get(api: &'static Api) -> Result<Script, String> {
        static NAMESPACE: Mutex<usize> = Mutex::new(0);
        let mut known = NAMESPACE.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == 0 {
            let namespace = fresh_namespace(api)?;
            for source in SOURCES {
                run(api, source, FILE_INPUT, namespace)?;
            }
            *known = namespace as usize;
        }
        Ok(Script { api, namespace: *known as Object })
    }

    /// What the engine asks for, as JSON: which is Python as well, as long as there are only numbers, texts and lists.
    pub fn prepare(&self, input: &[u8]) -> Result<Prepared, String> {
        let input = std::str::from_utf8(input).map_err(|error| error.to_string())?;
        let empty = fresh_namespace(self.api)?;
        let given = run(self.api, input, EVAL_INPUT, empty)?;
        let answer = self.call(c"prepare", given)?;
        // SAFETY: in the interpreter; the script answers a pair, of which both parts are kept by it.
        let (words, steps) = unsafe { ((self.api.tuple_get)(answer, 0), (self.api.tuple_get)(answer, 1)) };
        let words = text_of(self.api, words).ok_or("the script gave no answer")?;
        Ok(Prepared { words, steps: (steps != self.api.none).then_some(steps) })
    }

    /// Takes the steps; what could not be done, if anything.
    pub fn take(&self, steps: &Object) -> Vec<String> {
        let mut troubles = Vec::new();
        // SAFETY: in the interpreter, with the list that the script made.
        for index in 0..unsafe { (self.api.list_size)(*steps) } {
            // SAFETY: as above.
            let step = unsafe { (self.api.list_get)(*steps, index) };
            if let Err(reason) = self.take_one(step) {
                troubles.push(reason);
            }
        }
        troubles
    }

    fn take_one(&self, step: Object) -> Result<(), String> {
        let api = self.api;
        // SAFETY: in the interpreter; an item that is missing is null.
        let item = |index| unsafe { (api.tuple_get)(step, index) };
        let kind = text_of(api, item(0)).unwrap_or_default();
        let (place, name) = (item(1), item(2));
        // SAFETY: in the interpreter, with objects that the step holds.
        unsafe {
            match kind.as_str() {
                "poke" => {
                    let bytes = bytes_of(api, name).ok_or("no bytes")?;
                    return natives::write((api.number_get)(place), bytes);
                }
                "modified" => (api.type_modified)(place),
                "item" => {
                    let value = item(3);
                    let status = match value == api.none && is_removal(api, step) {
                        true => (api.dict_delete)(place, name),
                        false => (api.dict_set)(place, name, value),
                    };
                    if status != 0 {
                        return Err(format!("`{}`: {}", text_of(api, name).unwrap_or_default(), error(api)));
                    }
                }
                "type" => {
                    let value = item(3);
                    let value = if value == api.none && is_removal(api, step) { ptr::null_mut() } else { value };
                    let flags = place.byte_add(FLAGS).cast::<u64>();
                    let immutable = *flags & IMMUTABLE;
                    *flags &= !IMMUTABLE;
                    let set = *api.type_type.byte_add(SET_ATTRIBUTE).cast::<SetAttribute>();
                    let status = set(place, name, value);
                    *flags |= immutable;
                    if status != 0 {
                        return Err(format!("`{}`: {}", text_of(api, name).unwrap_or_default(), error(api)));
                    }
                }
                other => return Err(format!("unknown step `{other}`")),
            }
        }
        Ok(())
    }

    pub fn settle(&self, committed: bool) {
        // SAFETY: in the interpreter.
        let committed = unsafe { (self.api.boolean_new)(committed.into()) };
        // It only forgets or takes note; there is nobody to tell.
        let _ = self.call(c"settle", committed);
    }

    /// Calls a function of the script with one argument, whose reference it takes over. The answer is never freed.
    fn call(&self, name: &CStr, argument: Object) -> Result<Object, String> {
        let api = self.api;
        // SAFETY: in the interpreter; the tuple takes over the argument.
        let answer = unsafe {
            let function = (api.dict_get)(self.namespace, name.as_ptr());
            let arguments = (api.tuple_new)(1);
            (api.tuple_set)(arguments, 0, argument);
            let answer = (api.call)(function, arguments);
            (api.drop)(arguments);
            answer
        };
        if answer.is_null() { Err(error(api)) } else { Ok(answer) }
    }
}

/// A step of four parts whose last is None removes; one of five sets None.
unsafe fn is_removal(api: &Api, step: Object) -> bool {
    // SAFETY: in the interpreter, with a tuple of the script's.
    unsafe { (api.tuple_size)(step) == 4 }
}

/// A dictionary with the builtins and the natives, to run code in.
fn fresh_namespace(api: &Api) -> Result<Object, String> {
    // SAFETY: in the interpreter; the dictionaries are never freed, and the definitions are constants.
    unsafe {
        let (namespace, natives) = ((api.dict_new)(), (api.dict_new)());
        for definition in DEFINITIONS {
            let function = (api.function_new)(ptr::from_ref(definition).cast(), ptr::null_mut(), ptr::null_mut());
            if function.is_null() || (api.dict_set_text)(natives, definition.name(), function) != 0 {
                return Err(error(api));
            }
        }
        (api.dict_set_text)(namespace, c"__builtins__".as_ptr(), (api.builtins)());
        (api.dict_set_text)(namespace, c"natives".as_ptr(), natives);
        Ok(namespace)
    }
}

/// Runs or evaluates source text.
fn run(api: &Api, source: &str, input: i32, namespace: Object) -> Result<Object, String> {
    let source = CString::new(source).map_err(|error| error.to_string())?;
    // SAFETY: in the interpreter, with terminated texts.
    let answer = unsafe {
        let code = (api.compile)(source.as_ptr(), c"<reload-dashboard>".as_ptr(), input);
        if code.is_null() { code } else { (api.evaluate)(code, namespace, namespace) }
    };
    if answer.is_null() { Err(error(api)) } else { Ok(answer) }
}

/// The interpreter's pending error as text; it is pending no more.
fn error(api: &Api) -> String {
    let mut parts = [ptr::null_mut(); 3];
    let [kind, value, trace] = &mut parts;
    // SAFETY: in the interpreter, with places for the answers; the references are never given up.
    let text = unsafe {
        (api.fetch_error)(kind, value, trace);
        let shown = if parts[1].is_null() { parts[0] } else { parts[1] };
        if shown.is_null() { shown } else { (api.text_of)(shown) }
    };
    if text.is_null() { "an error without a description".to_owned() } else { text_of(api, text).unwrap_or_default() }
}
