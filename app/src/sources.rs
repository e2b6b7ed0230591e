//! Where a function or a file named in a trace lies in the user's sources. Reads files; for the worker.

use std::{
    borrow::Cow,
    env, fs,
    path::{Path, PathBuf},
};

use addr2line::{Loader, gimli};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use reload_engine::image::demangle;

/// A place in the user's sources, as a trace or a receipt names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Line { file: PathBuf, line: u32 },
    Function(String),
}

/// Where a function of `module` is written, from the type information of its file.
///
/// # Errors
/// One line with the reason.
pub fn of_function(module: &Path, function: &str) -> Result<(PathBuf, u32), String> {
    let told = |reason: &str| format!("{}: {reason}", module.display());
    let bytes = fs::read(module).map_err(|error| told(&error.to_string()))?;
    let file = object::File::parse(&*bytes).map_err(|error| told(&error.to_string()))?;
    let symbols = file.symbols().chain(file.dynamic_symbols());
    let mut functions = symbols.filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition());
    let address = functions
        .find(|symbol| symbol.name().is_ok_and(|name| name == function || demangle(name) == function))
        .map(|symbol| symbol.address())
        .ok_or_else(|| told(&format!("no function `{function}` in the file as it is now")))?;
    let loader = Loader::new(module).map_err(|error| told(&error.to_string()))?;
    let location = loader.find_location(address).ok().flatten();
    let place = location.and_then(|location| Some((location.file?.to_owned(), location.line?)));
    let (file, line) = place
        .ok_or_else(|| told("has no line information; build it with -g (Rust: `debug = \"line-tables-only\"`)"))?;
    Ok((of_file(Path::new(&file), module)?, line))
}

/// The file that a trace names: as it is, or below the working directory, or below a folder above the module, or among the
/// sources that the module was built from.
///
/// # Errors
/// One line with the reason.
pub fn of_file(named: &Path, module: &Path) -> Result<PathBuf, String> {
    let here = env::current_dir().ok();
    let folders = here.as_deref().into_iter().chain(module.ancestors().skip(1));
    let found = if named.is_absolute() {
        Some(named.to_owned())
    } else {
        folders.map(|folder| folder.join(named)).find(|path| path.is_file())
    };
    found
        .or_else(|| built_from(named, module))
        .filter(|path| path.is_file())
        .ok_or_else(|| format!("{}: not found, neither from here nor above {}", named.display(), module.display()))
}

/// The source of the module, by its line information, whose path ends so. A refusal names types by their file's name alone.
fn built_from(named: &Path, module: &Path) -> Option<PathBuf> {
    let bytes = fs::read(module).ok()?;
    let file = object::File::parse(&*bytes).ok()?;
    let load = |id: gimli::SectionId| -> Result<Cow<'_, [u8]>, gimli::Error> {
        let section = file.section_by_name(id.name());
        Ok(section.and_then(|section| section.uncompressed_data().ok()).unwrap_or_default())
    };
    let sections = gimli::DwarfSections::load(load).ok()?;
    let dwarf = sections.borrow(|section| gimli::EndianSlice::new(section, gimli::LittleEndian));
    let mut headers = dwarf.units();
    while let Ok(Some(header)) = headers.next() {
        let Ok(unit) = dwarf.unit(header) else { continue };
        let Some(program) = &unit.line_program else { continue };
        let text = |value| dwarf.attr_string(&unit, value).ok().map(|text| text.to_string_lossy().into_owned());
        let base = unit.comp_dir.map(|folder| folder.to_string_lossy().into_owned()).unwrap_or_default();
        for entry in program.header().file_names() {
            let folder = entry.directory(program.header()).and_then(text).unwrap_or_default();
            let Some(name) = text(entry.path_name()) else { continue };
            let path = Path::new(&base).join(folder).join(name);
            if path.ends_with(named) && path.is_file() {
                return Some(path);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, process::Command};

    use super::{of_file, of_function};

    #[test]
    fn functions_are_found_by_their_readable_names() {
        let room = tempfile::tempdir().unwrap();
        let source = room.path().join("world.cpp");
        fs::write(&source, "namespace physics {\nint hidden;\n\nint step(int by) { return hidden += by; }\n}\n")
            .unwrap();
        let library = room.path().join("libphysics.so");
        let build = |extra: &str| {
            let mut command = Command::new("g++");
            command.args(["-shared", "-fPIC", extra, "-o"]).arg(&library).arg(&source);
            assert!(command.status().unwrap().success());
        };
        build("-g");
        assert_eq!(of_function(&library, "physics::step(int)"), Ok((source.clone(), 4)));
        assert!(of_function(&library, "physics::gone()").unwrap_err().contains("no function"));
        build("-g0");
        assert!(of_function(&library, "physics::step(int)").unwrap_err().contains("-g"));
    }

    #[test]
    fn relative_names_are_looked_for_above_the_module() {
        let room = tempfile::tempdir().unwrap();
        fs::create_dir_all(room.path().join("src")).unwrap();
        fs::create_dir_all(room.path().join("build/plugins")).unwrap();
        let source = room.path().join("src/world.rs");
        fs::write(&source, "").unwrap();
        let module = room.path().join("build/plugins/libphysics.so");
        assert_eq!(of_file(Path::new("src/world.rs"), &module), Ok(source));
        assert!(of_file(Path::new("src/no.rs"), &module).unwrap_err().contains("not found"));
        assert!(of_file(Path::new("/no/such.rs"), &module).is_err());
    }

    #[test]
    fn a_header_named_alone_is_found_by_what_the_module_was_built_from() {
        let room = tempfile::tempdir().unwrap();
        fs::create_dir_all(room.path().join("include/save")).unwrap();
        fs::create_dir_all(room.path().join("build")).unwrap();
        let header = room.path().join("include/save/header.hpp");
        fs::write(&header, "struct Header { int checksum; };\ninline int sum(Header *h) { return h->checksum; }\n")
            .unwrap();
        let source = room.path().join("save.cpp");
        fs::write(&source, "#include <save/header.hpp>\nint check(Header *h) { return sum(h); }\n").unwrap();
        let library = room.path().join("build/libsave.so");
        let mut command = Command::new("g++");
        command.args(["-shared", "-fPIC", "-g", "-I"]).arg(room.path().join("include")).arg("-o").arg(&library);
        assert!(command.arg(&source).status().unwrap().success());
        assert_eq!(of_file(Path::new("header.hpp"), &library), Ok(header));
        assert!(of_file(Path::new("other.hpp"), &library).is_err());
    }
}
