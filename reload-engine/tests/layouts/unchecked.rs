//! Where types cannot be compared it is said, with what is missing: never "no change".

use std::{process::Command, sync::Arc};

use reload_engine::{image::Image, plan::Objections};

use super::{C, Language, RUST, build, plan_between};

/// Where one file of several was compiled without, the others' types do not stand for its own.
#[test]
fn type_information_that_is_missing_for_one_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let build = |factor: u32| {
        let output = folder.path().join("p.so");
        let objects = [("bare", "-g0", factor), ("full", "-g", 3)].map(|(name, flag, factor)| {
            let (source, object) = (folder.path().join(format!("{name}.c")), folder.path().join(format!("{name}.o")));
            std::fs::write(&source, format!("int {name}(int x) {{ return x * {factor}; }}")).expect("write");
            let built = Command::new("gcc").args(["-fPIC", "-c", flag, "-o"]).arg(&object).arg(&source).status();
            assert!(built.expect("the compiler is installed").success());
            object
        });
        let linked = Command::new("gcc").args(["-shared", "-o"]).arg(&output).args(objects).status();
        assert!(linked.expect("the compiler is installed").success());
        Arc::new(Image::parse(&output, std::fs::read(&output).expect("read")).expect("parse"))
    };
    let plan = plan_between(&build(2), build(5), Objections::Refuse).expect("a plan");
    let unchecked = plan.details.unchecked.expect("it says so");
    assert!(unchecked.contains("layouts unchecked: no type information for `bare`; build with -g"), "{unchecked}");
}

#[test]
fn without_type_information_the_plan_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let lines = [
        (Language::C, C, "-g0", "int width;", "long width;"),
        (Language::C, C, "-g1", "int width;", "long width;"),
        (Language::Rust, RUST, "-Cdebuginfo=0", "n + 3", "n + 4"),
        (Language::Rust, RUST, "-Cdebuginfo=1", "n + 3", "n + 4"),
    ];
    for (language, source, flag, from, to) in lines {
        let old = build(folder.path(), language, source, &[flag]);
        let new = build(folder.path(), language, &source.replace(from, to), &[flag]);
        let plan = plan_between(&old, new, Objections::Refuse).expect("a plan");
        let told =
            |line: &String| line.contains("layouts unchecked") && line.contains("build with -g (Rust: debug = 2)");
        assert!(plan.warnings.iter().any(told), "{flag}: {:?}", plan.warnings);
        assert_eq!(plan.details.unchecked.as_ref(), plan.warnings.iter().find(|line| told(line)));
    }
}

/// Said for what it is, with what helps.
#[test]
fn type_information_in_other_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let flags: [(&[&str], &str); 2] =
        [(&["-gsplit-dwarf"], "build without -gsplit-dwarf"), (&["-gdwarf-4", "-fdebug-types-section"], "-gdwarf-5")];
    for (flags, remedy) in flags {
        let old = build(folder.path(), Language::C, C, flags);
        let new = build(folder.path(), Language::C, &C.replace("x * 3", "x * 4"), flags);
        let unchecked = plan_between(&old, new, Objections::Refuse).expect("a plan").details.unchecked;
        assert!(unchecked.as_ref().is_some_and(|line| line.contains(remedy)), "{flags:?}: {unchecked:?}");
    }
}
