//! What compilers and linkers do to symbol names, and how to undo it for matching and for people.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::as_written::as_written;

// Made once: every name of every file is searched for them.
static SUFFIXES: LazyLock<[Finder<'static>; 2]> = LazyLock::new(|| [".llvm.", ".lto_priv."].map(Finder::new));
static MARKS: LazyLock<[Finder<'static>; 5]> =
    LazyLock::new(|| [".cold", ".part.", ".__part.", ".isra.", ".constprop."].map(Finder::new));

/// The part of a name that stays the same from build to build: without `.llvm.HASH`, `.lto_priv.N`, and, for local
/// statics of C, without the `.N` that numbers function-local ones (in Rust it names a part of a static that LLVM took apart).
pub fn normalise(name: &[u8], local_object: bool) -> &[u8] {
    if !name.contains(&b'.') {
        return name;
    }
    let mut name = name;
    for suffix in SUFFIXES.iter() {
        if let Some(at) = suffix.find(name) {
            name = &name[..at];
        }
    }
    if local_object
        && !is_rust(name)
        && let Some(dot) = name.iter().rposition(|byte| *byte == b'.')
        && dot > 0
        && dot + 1 < name.len()
        && name[dot + 1..].iter().all(u8::is_ascii_digit)
    {
        name = &name[..dot];
    }
    name
}

/// A function's name [normalised](normalise), and whether the function is auxiliary: the compiler split it off another one or
/// specialised it, so that its content belongs to whoever calls it, or the linker added it as start-up code. Nothing that a
/// programmer could have edited by name.
pub fn of_function(name: &[u8]) -> (&[u8], bool) {
    if !name.contains(&b'.') {
        return (name, is_start_up(name));
    }
    (normalise(name, false), MARKS.iter().any(|mark| mark.find(name).is_some()))
}

/// The name of the function that this is, or that the compiler split this off from.
pub fn of_whole(name: &[u8]) -> &[u8] {
    if !name.contains(&b'.') {
        return name;
    }
    let marks = MARKS.iter().filter_map(|mark| mark.find(name));
    normalise(&name[..marks.min().unwrap_or(name.len())], false)
}

/// Whether this is of gcc's `crtstuff.c`.
fn is_start_up(name: &[u8]) -> bool {
    const START_UP: [&[u8]; 4] =
        [b"deregister_tm_clones", b"register_tm_clones", b"__do_global_dtors_aux", b"frame_dummy"];
    START_UP.contains(&name)
}

/// Whether this is what the compiler runs at start for a C++ source file: it sets up all of the file's statics.
pub fn is_file_start_up(name: &str) -> bool {
    name.starts_with("_GLOBAL__sub_I_") || name.starts_with("_GLOBAL__I_")
}

/// Whether start-up code of a source file goes on here: gcc's one function for all of its statics, clang's one for each.
pub fn is_static_initialiser(name: &str) -> bool {
    name.contains("__static_initialization_and_destruction_") || name.starts_with("__cxx_global_var_init")
}

/// What names begin with that rustc makes by its newer scheme.
const V0: &str = "_R";
/// What stands before the hash in those of the older one.
const HASHED: &str = "17h";
/// One of these stands in every name that rustc made.
pub const MARKS_OF_RUST: [&str; 2] = [V0, HASHED];
const CLOSURE: &str = "closure";
const NUMBERED_CLOSURE: &str = "{closure#";
/// What a C++ lambda's type begins with (`closure-type-name`, Itanium C++ ABI 5.1.8).
const LAMBDA: &str = "Ul";
/// What clang writes before the number of a lambda that is known in its file only.
const COUNTED_LAMBDA: &str = "$_";
/// One of these stands in every name that has a [`closure_family`].
pub const MARKS_OF_CLOSURES: [&str; 4] = [V0, CLOSURE, LAMBDA, COUNTED_LAMBDA];

/// Whether rustc made this name, by either of its mangling schemes.
pub fn is_rust(name: &[u8]) -> bool {
    // `17h`, a hash of 16 digits and `E`, which no digit of it is.
    let hashed = || name.len() > 20 && name[name.len() - 20..].starts_with(HASHED.as_bytes());
    name.starts_with(V0.as_bytes()) || (name.starts_with(b"_ZN") && hashed())
}

/// A name of rustc's older scheme without its hash, in which the types of a static are: the path, and the part of the static
/// where LLVM took it apart. `None` for every other name.
pub fn without_hash(name: &str) -> Option<(&str, &str)> {
    const HASH: usize = "17h0123456789abcdefE".len();
    let at = name.strip_prefix("_ZN").and_then(|rest| rest.rfind(HASHED))? + "_ZN".len();
    let (path, hash) = name.split_at(at);
    let part = hash.get(HASH..)?;
    (hash.as_bytes()[HASH - 1] == b'E' && (part.is_empty() || part.starts_with('.'))).then_some((path, part))
}

/// For a closure or lambda, and for what names say was made for such: what it shares with those of the same function that differ
/// by the number only, so that a renumbering can be noticed. `None` for everything else.
pub fn closure_family(name: &str) -> Option<String> {
    if name.starts_with("_Z") && !is_rust(name.as_bytes()) {
        return without_lambda_numbers(name);
    }
    if !(name.contains(CLOSURE) || name.starts_with(V0)) {
        return None;
    }
    let readable = format!("{:#}", rustc_demangle::try_demangle(name).ok()?);
    // `parent::{{closure}}` (legacy); only a closure itself, not what is nested in one.
    if let Some(parent) = readable.strip_suffix("::{{closure}}") {
        return Some(parent.to_owned());
    }
    // `parent::{closure#2}`, `generic::<parent::{closure#2}>` (v0)
    let mut parts = readable.split(NUMBERED_CLOSURE);
    let first = parts.next()?.to_owned();
    let without_numbers = parts.map(|part| part.trim_start_matches(|digit: char| digit.is_ascii_digit()));
    let family = without_numbers.fold(first.clone(), |family, part| family + NUMBERED_CLOSURE + part);
    (family != first).then_some(family)
}

/// `None` where no lambda is named. In a lambda's type `E` and the number, which the first of a kind lacks, end its parameters:
/// `UlvE_`, `UlvE0_`. clang counts those of what nobody else can see through the file: `3$_0`, `4$_12`.
fn without_lambda_numbers(name: &str) -> Option<String> {
    fn without_digits(text: &str) -> &str {
        text.trim_start_matches(|digit: char| digit.is_ascii_digit())
    }
    let mut counted = name.split(COUNTED_LAMBDA);
    let mut family = counted.next()?.to_owned();
    let mut numbered = false;
    for part in counted {
        numbered = true;
        let length = family.trim_end_matches(|digit: char| digit.is_ascii_digit()).len();
        family.truncate(length);
        family = family + COUNTED_LAMBDA + without_digits(part);
    }
    if let Some(at) = family.find(LAMBDA) {
        let mut parts = family[at..].split('E');
        let mut rest = parts.next()?.to_owned();
        for part in parts {
            let ends = without_digits(part).starts_with('_');
            numbered |= ends;
            rest = rest + "E" + if ends { without_digits(part) } else { part };
        }
        family.truncate(at);
        family += &rest;
    }
    numbered.then_some(family)
}

/// Whether this is a closure or lambda itself, of names that have a [`closure_family`].
pub fn is_closure(name: &str) -> bool {
    if name.starts_with(V0) {
        return demangle(name).ends_with('}');
    }
    // `_ZZ5setupvENKUldE0_clEd`, `_ZZ5setupvENK3$_0clEd`: the call operator.
    let called = |mark: &str, call: &str| {
        let behind = |part: &str| part.trim_start_matches(|digit: char| digit.is_ascii_digit()).starts_with(call);
        name.split(mark).skip(1).any(behind)
    };
    is_rust(name.as_bytes()) || called("E", "_cl") || called(COUNTED_LAMBDA, "cl")
}

/// Whether the name is of Rust's older scheme, which does not say for which closures a function was made.
pub fn hides_closures(name: &str) -> bool {
    name.starts_with("_Z") && is_rust(name.as_bytes())
}

/// The function, as a programmer calls it, whose closure or lambda this is or was made for.
pub fn name_of_closures(name: &str) -> String {
    let readable = demangle(name);
    let marks = ["::{lambda(", "::{{closure}}", "::{closure#", "::$_"];
    let Some(end) = marks.iter().filter_map(|mark| readable.find(mark)).min() else { return readable };
    // Among template arguments it begins behind the last bracket or comma that is not its own.
    let mut depth = 0;
    let begin = readable[..end].char_indices().rev().find(|(_, letter)| {
        match letter {
            ')' | '>' => depth += 1,
            '(' | '<' => depth -= 1,
            ' ' | ',' if depth == 0 => depth = -1,
            _ => {}
        }
        depth < 0
    });
    readable[begin.map_or(0, |(at, _)| at + 1)..end].to_owned()
}

/// How the name of a static of C++ begins that says of another one that it has been constructed; the rest is that one's (Itanium
/// C++ ABI, 5.1.5.2).
const GUARD: &str = "_ZGV";

pub fn is_guard(name: &str) -> bool {
    name.starts_with(GUARD)
}

/// The static that this one is the guard of.
pub fn guarded(name: &str) -> Option<String> {
    name.strip_prefix(GUARD).map(|rest| format!("_Z{rest}"))
}

/// C++ notes there, for each thread, that a source file's thread-locals have been constructed.
pub const TLS_GUARD: &str = "__tls_guard";

/// Whether a static is the compiler's own: nobody has written it.
pub fn is_compilers(name: &str) -> bool {
    is_guard(name) || name == TLS_GUARD || name.ends_with("__ioinit") || name.starts_with("DW.ref.")
}

/// How names in the libraries of the languages themselves begin.
pub const LIBRARY_ROOTS: [&str; 5] = ["core::", "alloc::", "std::", "hashbrown::", "__gnu_cxx::"];

/// Whether a function, by its readable name, is code of the languages' own libraries.
pub fn is_library(name: &str) -> bool {
    /// Of C++ names that could not be demangled.
    const MANGLED: [&str; 3] = ["_ZNSt", "_ZNKSt", "_ZSt"];
    let name = without_result(name).trim_start_matches(['<', '&']);
    LIBRARY_ROOTS.iter().chain(&MANGLED).any(|root| name.starts_with(root))
}

/// C++ says of a template's function what it returns: `Item& std::vector<Item>::emplace_back<int>(int&&)`.
fn without_result(name: &str) -> &str {
    let mut depth = 0_usize;
    for (at, part) in name.char_indices() {
        match part {
            '(' if depth == 0 => break,
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 && !name[..at].ends_with("operator") => return &name[at + 1..],
            _ => {}
        }
    }
    name
}

/// As C++ compilers call it.
pub const ANONYMOUS_NAMESPACE: &str = "(anonymous namespace)";

/// The name as its language writes it, without hashes; unchanged where it is not mangled.
pub fn demangle(name: &str) -> String {
    let readable = if let Ok(rust) = rustc_demangle::try_demangle(name) {
        format!("{rust:#}")
    } else if name.starts_with("_Z")
        && let Ok(symbol) = cpp_demangle::Symbol::new(name)
        && let Ok(readable) = symbol.demangle()
    {
        as_written(&readable)
    } else {
        name.to_owned()
    };
    readable.replace("_GLOBAL__N_1", ANONYMOUS_NAMESPACE)
}

#[cfg(test)]
mod tests {
    use super::{
        MARKS_OF_CLOSURES, MARKS_OF_RUST, closure_family, demangle, is_closure, is_library, is_rust, name_of_closures,
        normalise, of_function, of_whole, without_hash,
    };

    #[test]
    fn compiler_suffixes_are_taken_off() {
        let check = |name: &str, local_object, expected: &str| {
            assert_eq!(normalise(name.as_bytes(), local_object), expected.as_bytes(), "{name}");
        };
        check("counter.llvm.1234567", false, "counter");
        check("calls.3", true, "calls");
        check("calls.3", false, "calls.3");
        check("table.lto_priv.0", false, "table");
        check(".LC.1x", true, ".LC.1x");
        check(".5", true, ".5");
        check("_RNvNtCs1_4demo5STATE.0", true, "_RNvNtCs1_4demo5STATE.0");
    }

    #[test]
    fn hashes_of_the_older_scheme_are_taken_off() {
        let check = |name, expected| assert_eq!(without_hash(name), expected, "{name}");
        check("_ZN4demo5STATE17h0123456789abcdefE", Some(("_ZN4demo5STATE", "")));
        check("_ZN4demo5STATE17h0123456789abcdefE.1", Some(("_ZN4demo5STATE", ".1")));
        check("_ZN4demo5STATEE", None);
        check("_ZN4demo17hE", None);
        check("_RNvCs1_4demo5STATE", None);
        check("counter", None);
    }

    #[test]
    fn auxiliary_functions_are_recognised() {
        assert!(of_function(b"work.cold").1);
        assert!(of_function(b"work.constprop.0").1);
        assert!(of_function(b"work.__part.1").1);
        assert!(!of_function(b"work_cold").1);
    }

    #[test]
    fn pieces_have_the_name_of_the_whole() {
        for piece in ["work", "work.cold", "work.part.0.cold", "work.constprop.0.isra.0", "work.lto_priv.3.cold"] {
            assert_eq!(of_whole(piece.as_bytes()), b"work");
        }
    }

    #[test]
    fn closures_share_their_parent() {
        let legacy = "_ZN4demo4step28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE";
        assert_eq!(closure_family(legacy).as_deref(), Some("demo::step"));
        assert_eq!(closure_family("plain_c_function"), None);
    }

    #[test]
    fn lambdas_share_what_differs_by_number() {
        let check = |one: &str, other: &str| {
            assert!(closure_family(one).is_some(), "{one}");
            assert_eq!(closure_family(one), closure_family(other));
        };
        check("_ZZ5setupvENKUldE_clEd", "_ZZ5setupvENKUldE12_clEd");
        let invoke =
            |number| format!("_ZNSt17_Function_handlerIFddEZ5setupvEUldE{number}_E9_M_invokeERKSt9_Any_dataOd");
        check(&invoke(""), &invoke("0"));
        check("_ZZ5setupvENK3$_0clEd", "_ZZ5setupvENK4$_12clEd");
        assert_ne!(closure_family("_ZZ5setupvENKUldE_clEd"), closure_family("_ZZ5setupvENKUlvE_clEv"));
        assert_eq!(closure_family("_Z5setupv"), None);
        check("_RNCNvCs1_4demo4step0B3_", "_RNCNvCs1_4demo4steps_0B3_");
    }

    #[test]
    fn closures_are_told_from_what_is_made_for_them() {
        let closures =
            ["_ZZ5setupvENKUldE0_clEd", "_ZZ5setupvENK3$_0clEd", "_ZZ5setupvENKUlT_E_clIiEEDaS_", "_ZNK3topMUlvE_clEv"];
        assert!(closures.into_iter().all(is_closure));
        let made = [
            "_ZNSt17_Function_handlerIFddEZ5setupvEUldE_E9_M_invokeERKSt9_Any_dataOd",
            "_ZNSt17_Function_handlerIFvvEZ5setupvE3$_0E9_M_invokeERKSt9_Any_data",
        ];
        assert!(made.into_iter().all(|name| closure_family(name).is_some() && !is_closure(name)));
    }

    #[test]
    fn closures_are_told_by_their_function() {
        let check = |name: &str, expected| assert_eq!(name_of_closures(name), expected, "{name}");
        check("_ZZ5setupvENKUldE_clEd", "setup()");
        check("_ZNSt17_Function_handlerIFddEZ5setupvEUldE_E9_M_invokeERKSt9_Any_dataOd", "setup()");
        check("_ZN4demo4step28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE", "demo::step");
    }

    #[test]
    fn who_looks_for_marks_misses_nothing() {
        let check = |name: &str| {
            let has = |marks: &[&str]| marks.iter().any(|mark| name.contains(mark));
            assert_eq!(is_rust(name.as_bytes()), has(&MARKS_OF_RUST), "{name}");
            assert!(closure_family(name).is_none() || has(&MARKS_OF_CLOSURES), "{name}");
        };
        check("_ZN4demo4step28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE");
        check("_ZN4demo4step17h0123456789abcdefE");
        check("_RNCNvCs1_4demo4step0B3_");
        check("_ZZ5setupvENKUldE0_clEd");
        check("_ZN5World4stepEi");
        check("main");
    }

    #[test]
    fn names_are_readable() {
        assert_eq!(demangle("_ZN4demo4step17h0123456789abcdefE"), "demo::step");
        assert_eq!(demangle("_ZN5World4stepEi"), "World::step(int)");
        assert_eq!(demangle("_ZN12_GLOBAL__N_16countsE"), "(anonymous namespace)::counts");
        assert_eq!(demangle("main"), "main");
    }

    #[test]
    fn code_of_the_libraries_by_its_name() {
        for name in [
            "std::vector<Item>::at(unsigned long) const",
            "void std::swap<int>(int&, int&)",
            "Item& std::vector<Item>::emplace_back<int>(int&&)",
            "<alloc::vec::Vec<T> as core::ops::Deref>::deref",
            "_ZNSt6chrono13duration_castE",
        ] {
            assert!(is_library(name), "{name}");
        }
        for name in ["serve()", "Item::operator bool() const", "Holder<std::vector<int>>::get()", "std_like::run"] {
            assert!(!is_library(name), "{name}");
        }
    }
}
