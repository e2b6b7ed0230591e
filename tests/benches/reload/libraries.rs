//! The libraries and programs that are reloaded: generated sources, built by the compilers that users use, and stamped.
//!
//! Each function adds a constant of its own to its result. A new version is the built file with that constant rewritten, in
//! one function or in all of them; building a hundred thousand functions anew for every save would measure the compiler. Two
//! builds that lay everything out differently take turns, since an edit moves what lies behind it.

use std::{
    fmt::Write as _,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use reload_engine::image::elf;
use reload_tests::toolchain::{self, run};

/// The constants as built; the low half is the version.
const STAMP: u32 = 0x5a5a_0001;
/// That of `value`, the one function that every save changes.
const VALUE: u32 = 0x5a5b_0001;
/// Functions of one translation unit; larger ones make compilers slow.
const UNIT: usize = 5_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    C,
    /// A program in C with the functions inside.
    Program,
    Rust,
    /// A module instead of a library, for IPython.
    Python,
}

/// Which functions a save changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    One,
    /// The first so many.
    Some(usize),
    All,
}

/// Two builds of a library and where their stamps stand.
pub struct Library {
    pub name: String,
    pub language: Language,
    builds: [(Vec<u8>, Vec<usize>); 2],
}

impl Library {
    /// Generates and builds, or takes what an earlier run built from the same sources.
    pub fn build(language: Language, functions: usize, cache: &Path) -> Library {
        let prefix = match language {
            Language::C => "c",
            Language::Program => "program",
            Language::Rust => "rust",
            Language::Python => "python",
        };
        let name = format!("{prefix}{functions}");
        let builds = [0, 1].map(|layout| {
            let built = match language {
                Language::C => build_c(functions, layout, cache),
                Language::Program => build_program(functions, layout, cache),
                Language::Rust => build_rust(functions, layout, cache),
                Language::Python => return python(functions),
            };
            let bytes = fs::read(&built).expect("just built");
            let sections = elf::read(&built, &bytes).expect("a library").sections;
            let text = sections.iter().find(|section| section.name == ".text").expect("it has code");
            let text = text.offset as usize..(text.offset + text.size) as usize - 4;
            let find = |stamp: u32| {
                let stamp = stamp.to_le_bytes();
                text.clone().filter(|&at| bytes[at..at + 4] == stamp).collect::<Vec<usize>>()
            };
            let mut places = find(VALUE);
            places.extend(find(STAMP));
            assert_eq!(places.len(), functions, "{}: one stamp per function", built.display());
            (bytes, places)
        });
        Library { name, language, builds }
    }

    pub fn file_name(&self) -> String {
        match self.language {
            Language::Python => format!("{}.py", self.name),
            Language::Program => self.name.clone(),
            Language::C | Language::Rust => format!("lib{}.so", self.name),
        }
    }

    /// The file of version `version`, from 1.
    pub fn version(&self, version: u16, changed: Changed) -> Vec<u8> {
        let (built, places) = &self.builds[usize::from(version) % 2];
        let mut bytes = built.clone();
        let places = match changed {
            // `value`.
            Changed::One => &places[..1],
            Changed::Some(count) => &places[..count],
            Changed::All => &places[..],
        };
        let digits = format!("{version:5}");
        let stamp = if self.language == Language::Python { digits.as_bytes() } else { &version.to_le_bytes() };
        for &place in places {
            bytes[place..place + stamp.len()].copy_from_slice(stamp);
        }
        bytes
    }
}

fn build_c(functions: usize, layout: usize, cache: &Path) -> PathBuf {
    let objects = objects(functions, layout, &["-fPIC", "-g", "-O1", "-fno-reorder-functions"], cache);
    cached(cache, &format!("libc{functions}.so"), &objects, |_, output| {
        run(Command::new("gcc").args(["-shared", "-Wl,--build-id=none"]).args(&objects).arg("-o").arg(output));
    })
}

fn build_program(functions: usize, layout: usize, cache: &Path) -> PathBuf {
    // The `main` is the caller's.
    let flags = ["-fPIE", "-g", "-O1", "-fno-reorder-functions", "-Dmain=other_main"];
    let objects = objects(functions, layout, &flags, cache);
    let caller = toolchain::hosts().join("caller.c");
    let text = fs::read(&caller).expect("it is there");
    cached(cache, &format!("program{functions}"), &(&objects, text), |_, output| {
        let mut command = Command::new("gcc");
        command.args(["-pie", "-fPIE", "-g", "-O1", "-pthread", "-Wl,--build-id=none", "-o"]).arg(output);
        run(command.arg(&caller).args(&objects).arg("-ldl"));
    })
}

/// The translation units, compiled.
fn objects(functions: usize, layout: usize, flags: &[&str], cache: &Path) -> Vec<PathBuf> {
    let units: Vec<String> = (0..functions.div_ceil(UNIT))
        .map(|unit| c_unit(unit * UNIT..functions.min((unit + 1) * UNIT), layout))
        .collect();
    let compile = |unit: &String| {
        cached(cache, "unit.o", &(unit, flags), |folder, output| {
            let source = folder.join("unit.c");
            fs::write(&source, unit).expect("the folder is ours");
            run(Command::new("gcc").args(flags).arg("-c").arg(source).arg("-o").arg(output));
        })
    };
    let mut objects = Vec::new();
    for pair in units.chunks(2) {
        thread::scope(|scope| {
            let compiling: Vec<_> = pair.iter().map(|unit| scope.spawn(|| compile(unit))).collect();
            objects.extend(compiling.into_iter().map(|object| object.join().expect("gcc is installed")));
        });
    }
    objects
}

/// Nine of ten functions are `static`; every tenth has a static variable, each calls the one before it.
fn c_unit(functions: std::ops::Range<usize>, layout: usize) -> String {
    let mut text = String::new();
    let first = functions.start;
    for index in functions {
        if index == 0 {
            // The second layout pushes everything behind it along.
            let longer = if layout == 1 { "__asm__ volatile(\".skip 40, 0x90\"); " } else { "" };
            writeln!(text, "long value(void) {{ {longer}return {VALUE}; }}").expect("memory");
            // What subsecond finds its way by.
            writeln!(text, "int main(void) {{ return 0; }}").expect("memory");
            continue;
        }
        let linkage = if index % 10 == 0 { "" } else { "static " };
        if index % 10 == 0 || index == first.max(1) {
            writeln!(text, "static long state_{index} = {index};").expect("memory");
        }
        let state = if index % 10 == 0 { index } else { (index / 10 * 10).max(first.max(1)) };
        let callee = if index == first || index == 1 { "x".to_owned() } else { format!("f_{}(x - 1)", index - 1) };
        writeln!(
            text,
            "{linkage}__attribute__((noinline, noclone, used)) long f_{index}(long x) {{ \
             if (x > 3) return {callee} + {STAMP}; \
             state_{state} += x; return state_{state} * {} ^ x; }}",
            index % 7 + 2
        )
        .expect("memory");
    }
    text
}

fn build_rust(functions: usize, layout: usize, cache: &Path) -> PathBuf {
    const FLAGS: [&str; 8] = [
        "--edition",
        "2024",
        "--crate-type",
        "cdylib",
        "-Cdebuginfo=2",
        "-Clink-arg=-Wl,--build-id=none",
        "-A",
        "warnings",
    ];
    let mut text = String::from("use std::sync::atomic::{AtomicI64, Ordering::Relaxed};\nuse std::hint::black_box;\n");
    let longer = if layout == 1 { "black_box([1u8; 24]); " } else { "" };
    writeln!(text, "#[unsafe(no_mangle)] pub extern \"C\" fn value() -> i64 {{ {longer}{VALUE} }}").expect("memory");
    text += "#[unsafe(no_mangle)] pub extern \"C\" fn main() {}\n";
    for index in 1..functions {
        if index % 10 == 1 {
            writeln!(text, "static STATE_{index}: AtomicI64 = AtomicI64::new({index});").expect("memory");
        }
        let state = (index - 1) / 10 * 10 + 1;
        let callee = if index == 1 { "x".to_owned() } else { format!("f_{}(x - 1)", index - 1) };
        let linkage =
            if index % 10 == 0 || index + 1 == functions { "#[unsafe(no_mangle)] pub extern \"C\" " } else { "" };
        writeln!(
            text,
            "{linkage}fn f_{index}(x: i64) -> i64 {{ if x > 3 {{ return {callee} ^ {STAMP}; }} \
             STATE_{state}.fetch_add(x, Relaxed) }}"
        )
        .expect("memory");
    }
    cached(cache, &format!("librust{functions}.so"), &(&text, FLAGS), |folder, output| {
        fs::write(folder.join("library.rs"), &text).expect("the folder is ours");
        // Panics name the file: both layouts by the same path, as two builds of a project do.
        run(Command::new("rustc").current_dir(folder).args(FLAGS).arg("-o").arg(output).arg("library.rs"));
    })
}

/// A module of Python, and where the digits of its versions stand.
fn python(functions: usize) -> (Vec<u8>, Vec<usize>) {
    let mut text = String::from("state = {}\n\ndef value():\n    return ");
    let mut places = vec![text.len()];
    text += "    1\n";
    for index in 1..functions {
        write!(text, "\ndef f_{index}(x):\n    state[{index}] = x\n    return x * {} + ", index % 7 + 2)
            .expect("memory");
        places.push(text.len());
        text += "    1\n";
    }
    (text.into_bytes(), places)
}

/// Builds into a folder that is named after what is built.
fn cached(cache: &Path, name: &str, what: &impl Hash, build: impl FnOnce(&Path, &Path)) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    let folder = cache.join(format!("{:016x}", hasher.finish()));
    let output = folder.join(name);
    if !output.exists() {
        eprintln!("building {name}, once...");
        fs::create_dir_all(&folder).expect("the folder is ours");
        let unfinished = output.with_extension("unfinished");
        build(&folder, &unfinished);
        fs::rename(&unfinished, &output).expect("the folder is ours");
    }
    output
}
