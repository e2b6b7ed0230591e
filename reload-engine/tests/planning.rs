//! Plans between real libraries, built here by the system's compilers: what counts as changed, kept, new, ambiguous.

use std::{collections::BTreeMap, path::Path, process::Command, sync::Arc};

use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use reload_engine::{
    image::{Image, are_same_symbols},
    model::{Generation, LoadBias, Place},
    plan::{self, Objections, Plan, bind::FunctionIdentities, homes::Homes, lineage::Lineage, residents::Residents},
};

#[path = "shared/agree.rs"]
mod agree;

/// `compiler` is one of gcc, g++ and rustc, or `program` for a C program.
fn build(folder: &Path, compiler: &str, source: &str, flags: &[&str]) -> Arc<Image> {
    let (extension, basic): (_, &[&str]) = match compiler {
        "gcc" => ("c", &["-shared", "-fPIC"]),
        "g++" => ("cpp", &["-shared", "-fPIC"]),
        "program" => ("c", &["-fPIE", "-pie"]),
        _ => ("rs", &["--edition=2024", "--crate-type=cdylib", "--crate-name=library"]),
    };
    let (input, output) = (folder.join(format!("library.{extension}")), folder.join("library.so"));
    std::fs::write(&input, source).expect("write the source");
    let mut command = Command::new(if compiler == "program" { "gcc" } else { compiler });
    command.args(basic).arg("-o").arg(&output).arg(&input).args(flags);
    let built = command.output().expect("the compiler is installed");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Arc::new(Image::parse(&output, std::fs::read(&output).expect("read the library")).expect("parse"))
}

fn plan_of(old: &str, new: &str, flags: &[&str]) -> Result<Plan, Vec<String>> {
    plan_by("gcc", old, new, flags)
}

fn plan_by(compiler: &str, old: &str, new: &str, flags: &[&str]) -> Result<Plan, Vec<String>> {
    let folder = tempfile::tempdir().expect("a folder");
    let old = build(folder.path(), compiler, old, flags);
    let new = build(folder.path(), compiler, new, flags);
    agree::assert_read_the_same(&old, &new);
    let homes = Homes::of_original(&old, LoadBias(0x10_0000), 1, &BTreeMap::new());
    plan::plan(&Lineage::new(old, LoadBias(0x10_0000), 1, homes), 0, new, Objections::Refuse)
}

const BASE: &str = r#"
#include <stdio.h>
static int counter = 7; int exported = 3; static const char *words[] = {"one", "two"};
__attribute__((noinline)) static int helper(int x) { static int calls; calls++; return x + calls; }
int work(int x) { counter += x; exported++; return helper(x) * 2; }
int pick(int x) { switch (x) { case 0: return 11; case 1: return 5; case 2: return 99; case 3: return 17; case 4: return 2; } return x; }
const char *word(int i) { return words[i & 1]; }
int show(void) { return printf("counter %d\n", counter); }
"#;

#[test]
fn a_rebuild_changes_nothing() {
    for level in ["-O0", "-O2", "-Os"] {
        let plan = plan_of(BASE, BASE, &[level]).expect("a plan");
        assert!(plan.changes_nothing(), "{level}: {:?}", plan.details);
        // counter, exported, calls and the start-up code's completed.0; unoptimised, words is writable too.
        assert_eq!(plan.statics.kept, if level == "-O0" { 5 } else { 4 }, "{level}");
    }
}

#[test]
fn only_the_edited_function_counts_as_changed() {
    for level in ["-O0", "-O2", "-Os"] {
        let plan = plan_of(BASE, &BASE.replace("* 2", "* 3 + x"), &[level]).expect("a plan");
        assert_eq!(plan.details.changed, ["work"], "{level}");
        assert_eq!((plan.functions.added, plan.functions.removed), (0, 0), "{level}");
    }
}

/// Whether both builds have one list of what their symbols say.
fn share_symbols(old: &str, new: &str, flags: &[&str]) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let [old, new] = [old, new].map(|source| build(folder.path(), "gcc", source, flags));
    assert!(!are_same_symbols(&old, &new), "each was read alone");
    are_same_symbols(&old, &agree::assert_read_the_same(&old, &new))
}

#[test]
fn builds_whose_functions_have_only_moved_share_what_their_symbols_say() {
    for level in ["-O0", "-O2"] {
        let check = |expected: bool, what: &str, edited: &str| {
            assert_eq!(share_symbols(BASE, edited, &[level]), expected, "{level}, {what}");
        };
        check(true, "nothing edited", BASE);
        check(true, "everything behind it moves", &BASE.replace("* 2", "* 3 + x * x % 7 + counter / 3"));
        check(
            true,
            "a static has grown",
            &BASE.replace("int exported = 3", "int exported[9] = {3}").replace("exported++", "++*exported"),
        );
        check(true, "one more static", &BASE.replace("exported++", "static int more; exported += ++more"));
        check(false, "one more", &format!("{BASE} int more(void) {{ return 1; }}"));
        check(false, "one less", &BASE.replace("const char *word(int i) { return words[i & 1]; }", ""));
        check(false, "another name", &BASE.replace("pick", "tick"));
        check(false, "seen by others now", &BASE.replace("static int helper", "int helper"));
    }
    // Symbols that others can see come in an order that is not theirs.
    let functions =
        ["int one(int x) { return x + 1; }", "int two(int x) { return x * 21; }", "int three(int x) { return x - 3; }"];
    let [one, two, three] = functions;
    assert!(
        !share_symbols(&[one, two, three].concat(), &[three, one, two].concat(), &["-O2"]),
        "other places in the order"
    );
    let second_name = |of: &str| format!("{one}{two} extern __typeof(one) again __attribute__((alias(\"{of}\")));");
    assert!(!share_symbols(&second_name("one"), &second_name("two"), &["-O2"]), "a second name of another");
    let versions = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&versions, "V1 { one; }; V2 { two; } V1;").expect("write");
    let script = format!("-Wl,--version-script={}", versions.path().display());
    assert!(
        !share_symbols(&[one, two].concat(), &[one, two].concat(), &["-O2", &script]),
        "one name can have versions"
    );
}

/// Goes through generations, each with its parent and source, twice: with files that share what they have in common with their
/// parent's, and with files that share nothing. In how many of them something was shared.
fn go_through(compiler: &str, flags: &[&str], first: &str, steps: &[(usize, &str)]) -> usize {
    let folder = tempfile::tempdir().expect("a folder");
    let bias = |generation: usize| LoadBias(0x1000_0000 * (generation as u64 + 1));
    let first = build(folder.path(), compiler, first, flags);
    let homes = Homes::of_original(&first, bias(0), 1, &BTreeMap::new());
    let [mut alone, mut sharing] = [(); 2].map(|()| Lineage::new(Arc::clone(&first), bias(0), 1, homes.clone()));
    let mut shared = 0;
    for (number, (parent, source)) in (1..).zip(steps) {
        let own = build(folder.path(), compiler, source, flags);
        let before = &sharing.placed(*parent).image;
        let after = Image::parse_after(Some(before), &own.path, own.bytes.clone()).expect("it has been read before");
        shared += usize::from(are_same_symbols(before, &after));
        let place = Place { bias: bias(number), tls_module: number as u64 + 1, tls_base: 0 };
        let said = [(&mut alone, own), (&mut sharing, Arc::new(after))].map(|(lineage, image)| {
            let plan = plan::plan(lineage, *parent, image, Objections::Warn).expect("a plan");
            let placed = lineage.place(&plan, Generation(number as u32), place, &[]);
            let placed = lineage.placed(placed);
            (agree::said(&plan), placed.families.clone(), placed.storage.clone(), placed.implements.clone())
        });
        assert_eq!(said[0], said[1], "generation {number}");
    }
    shared
}

#[test]
fn what_files_share_changes_no_plan_of_any_generation() {
    let edited = BASE.replace("* 2", "* 3 + x");
    let longer = format!("{edited} int more(int x) {{ static int seen; return seen += x; }}");
    let without = BASE.replace("const char *word(int i) { return words[i & 1]; }", "");
    let other = longer.replace("seen += x", "seen -= x");
    for level in ["-O0", "-O2"] {
        // On, twice back by one, to the start and on from there.
        let steps = [
            (0, &*edited),
            (1, &*longer),
            (1, BASE),
            (2, &*other),
            (0, &*edited),
            (5, &*without),
            (6, BASE),
            (4, &*longer),
        ];
        assert_eq!(go_through("gcc", &[level], BASE, &steps), 5, "{level}");
    }
    let closures = |all: &str| {
        let code = "use std::hint::black_box; #[unsafe(no_mangle)] pub extern \"C\" fn work(x: i64) -> i64";
        format!("{code} {{ [{all}].iter().map(|of| black_box(of)(black_box(x))).sum() }}")
    };
    let sources =
        ["|y: i64| y + 1, |y| y * 7", "|y: i64| y - 5, |y| y + 1, |y| y * 7", "|y: i64| y - 5, |y| y + 1, |y| y * 9"];
    let [first, inserted, edited] = sources.map(closures);
    let steps = [(0, &*inserted), (1, &*edited), (2, &*inserted), (1, &*first), (0, &*first), (2, &*edited)];
    assert_eq!(go_through("rustc", &[], &first, &steps), 4);
}

#[test]
fn what_was_no_function_and_lies_in_code_now_is_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = build(folder.path(), "gcc", BASE, &["-O1"]);
    let file = object::File::parse(&**old.bytes).expect("a library");
    let section = file.section_by_name(".symtab").expect("not stripped");
    let (start, _) = section.file_range().expect("in the file");
    let init = file.symbols().find(|symbol| symbol.name() == Ok("_init")).expect("of the start-up code");
    let place = start as usize + 24 * init.index().0 + 8;
    let mut bytes = old.bytes.to_vec();
    assert_eq!(bytes[place..place + 8], init.address().to_le_bytes());
    bytes[place..place + 8].copy_from_slice(&(old.functions[0].address.0 + 1).to_le_bytes());
    let new = Arc::new(Image::parse(&old.path, bytes).expect("parse"));
    assert_eq!(new.functions.len(), old.functions.len() + 1);
    agree::assert_read_the_same(&old, &new);
}

/// As [`plan_of`], and the new source has another name.
fn plan_of_renamed(old: &str, new: &str) -> Plan {
    let folder = tempfile::tempdir().expect("a folder");
    let old = build(folder.path(), "gcc", old, &["-O0"]);
    std::fs::write(folder.path().join("renamed.c"), new).expect("write the source");
    let renamed = folder.path().join("renamed.c");
    let new = build(folder.path(), "gcc", "", &["-O0", renamed.to_str().expect("a plain path")]);
    let homes = Homes::of_original(&old, LoadBias(0x10_0000), 1, &BTreeMap::new());
    plan::plan(&Lineage::new(old, LoadBias(0x10_0000), 1, homes), 0, new, Objections::Refuse).expect("a plan")
}

#[test]
fn functions_of_a_renamed_source_file_are_the_same_to_who_refers_to_them() {
    let source = "static int called(int x) { return x + 1; }\n static int stored(int x) { return x + 2; }\n\
                  int (*held)(int); void keep(void) { held = stored; }\n int work(int x) { return called(x); }\n";
    let plan = plan_of_renamed(source, &source.replace("x + ", "x * "));
    assert_eq!((plan.functions.added, plan.functions.removed), (0, 0), "{:?}", plan.details);
    for name in ["called", "stored"] {
        assert!(plan.details.changed.iter().any(|changed| changed == name), "{:?}", plan.details);
    }
}

#[test]
fn a_namesake_in_another_file_is_another_also_to_who_reads_a_table() {
    let source = "static int step(int x) { return x + 1; }\n static int (*const table[])(int) = {step, step};\n\
                  int work(int x) { return table[x & 1](x); }\n";
    let plan = plan_of_renamed(source, &source.replace("x + ", "x * "));
    assert_eq!(plan.details.removed, ["step"], "{:?}", plan.details);
    assert!(plan.details.changed.iter().any(|changed| changed == "work"), "{:?}", plan.details);
}

#[test]
fn a_changed_constant_changes_its_readers() {
    let plan = plan_of(BASE, &BASE.replace("counter %d", "count is %d"), &["-O2"]).expect("a plan");
    assert_eq!(plan.details.changed, ["show"]);
}

#[test]
fn functions_come_and_go() {
    let new = BASE
        .replace("int show", "int extra(void) { return 4; }\nint show")
        .replace("const char *word(", "const char *term(");
    let plan = plan_of(BASE, &new, &["-O2"]).expect("a plan");
    assert_eq!(plan.details.changed, Vec::<String>::new());
    assert_eq!(plan.details.added, ["term", "extra"]);
    assert_eq!(plan.details.removed, ["word"]);
}

#[test]
fn statics_are_kept_added_and_reset_by_size() {
    let new = BASE
        .replace("static int counter", "static int before = 1, between[9]; static int counter")
        .replace("return helper(x) * 2", "return helper(x) * 2 + before++ + between[x & 7]++");
    let plan = plan_of(BASE, &new.replace("int exported = 3", "long exported = 3"), &["-O1"]).expect("a plan");
    let mut fresh = plan.details.new_statics.clone();
    fresh.sort();
    assert_eq!(fresh, ["before", "between"]);
    assert_eq!(plan.details.reset_statics, ["exported"]);
    assert_eq!(plan.statics.kept, 3);
}

#[test]
fn local_statics_of_one_name_follow_their_functions() {
    let source = |middle: &str| {
        format!(
            "__attribute__((noinline)) int f(void) {{ static int n = 1; return n++; }}\n{middle}
             __attribute__((noinline)) int h(void) {{ static int n = 3; return n++; }}"
        )
    };
    let plan =
        plan_of(&source(""), &source("int g(void) { static int n = 2; return n++; }"), &["-O1"]).expect("a plan");
    assert_eq!(plan.details.changed, Vec::<String>::new());
    assert_eq!(plan.details.added, ["g"]);
    assert_eq!(plan.statics.new, 1);
}

const CATCHING: &str = r#"
struct A { int a; }; struct B { int b; };
void fails(int);
extern "C" int guarded(int x) { try { fails(x); return 1; } catch (const A &) { return 2; } catch (int) { return 3; } }
extern "C" int passes(int x) noexcept { fails(x); return 4; }
extern "C" int other(int x) { try { fails(x + 1); return 5; } catch (const B &) { return 6; } }
void fails(int x) { if (x) throw A{x}; throw B{x}; }
"#;

#[test]
fn a_catch_clause_is_part_of_its_function() {
    for level in ["-O0", "-O2", "-Os"] {
        let plan = plan_by("g++", CATCHING, &CATCHING.replace("catch (const A &)", "catch (const B &)"), &[level]);
        assert_eq!(plan.expect("a plan").details.changed, ["guarded"], "{level}");
        // A function before the others moves them and their tables.
        let moved = CATCHING.replacen("extern", "extern \"C\" int first(int x) { fails(x); return 7; }\nextern", 1);
        let plan = plan_by("g++", CATCHING, &moved, &[level]).expect("a plan");
        assert_eq!((plan.details.changed, plan.details.added.len()), (Vec::new(), 1), "{level}");
    }
}

const NAMING: &str = r#"
#[unsafe(no_mangle)] pub extern "C" fn before(n: usize) -> usize { let s = if n > 3 { "some words" } else { "" }; s.as_ptr() as usize }
#[unsafe(no_mangle)] pub extern "C" fn name(n: u32) -> usize {
    let name = match n { 0 => "zero", 1 => "one", 2 => "second", 3 => "third", 4 => "fourth", _ => "many" };
    name.as_ptr() as usize + name.len()
}
"#;

/// The functions that run in the shadow of an edit, by name, and those that they call elsewhere.
fn residents(old: &str, new: &str, flags: &[&str]) -> (Vec<String>, Vec<String>) {
    let bias = LoadBias(0x10_0000);
    let folder = tempfile::tempdir().expect("a folder");
    let old = build(folder.path(), "gcc", old, flags);
    let new = build(folder.path(), "gcc", new, flags);
    let homes = Homes::of_original(&old, bias, 1, &BTreeMap::new());
    let lineage = Lineage::new(Arc::clone(&old), bias, 1, homes);
    let plan = plan::plan(&lineage, 0, new, Objections::Refuse).expect("a plan");
    let residents = Residents::of(&plan, &lineage, &FunctionIdentities::new(&plan, &lineage));
    let image = &plan.image;
    let named = |index: usize, image: &Image| image.function_name(&image.functions[index]).to_owned();
    let inside = (0..image.functions.len()).filter(|index| residents.contains(image.functions[*index].address));
    let called = residents.calls().iter().map(|call| old.function_starting_at(bias.vaddr(call.to)).expect("an entry"));
    (inside.map(|index| named(index, image)).collect(), called.map(|index| named(index, &old)).collect())
}

#[test]
fn only_what_is_edited_runs_in_the_shadow_and_calls_the_rest_where_it_was() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let edited = BASE.replace("* 2", "* 3 + x");
    assert_eq!(residents(BASE, &edited, &["-O2"]), (names(&["work"]), names(&["helper"])));
    let both = edited.replace("calls++", "calls += 2");
    assert_eq!(residents(BASE, &both, &["-O2"]), (names(&["helper", "work"]), names(&[])));
    // A jump of two bytes cannot be led elsewhere, and what it leads to comes along.
    let short = r#"
        static int count; __attribute__((noinline, used)) static int near(void) { return ++count; }
        __asm__(".text\n.globl hop\n.type hop, @function\nhop: movl $1, %eax\n jmp near_too\n.size hop, .-hop\n"
                ".type near_too, @function\nnear_too: incl count(%rip)\n movl count(%rip), %eax\n ret\n"
                ".size near_too, .-near_too\n");
        int work(int x) { return x + near(); }
    "#;
    assert_eq!(residents(short, &short.replace("$1", "$2"), &["-O2"]), (names(&["hop", "near_too"]), names(&[])));
    // So does what stands there under several names: one of them may part from the others.
    let aliases = "int count; __attribute__((noinline)) static int one(int x) { return count += x; }\n\
                   int same(int) __attribute__((alias(\"one\"))); int asks(int x) { return one(x) + 1; }";
    let edited = aliases.replace("one(x) + 1", "one(x) + 2");
    assert_eq!(residents(aliases, &edited, &["-O2"]), (names(&["one", "same", "asks"]), names(&[])));
    // So does what it runs on into.
    let through = short.replace(" jmp near_too\\n", "");
    assert_eq!(residents(&through, &through.replace("$1", "$2"), &["-O2"]), (names(&["hop", "near_too"]), names(&[])));
}

#[test]
fn what_tables_and_pointers_lead_into_runs_in_the_shadow() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    // A table of distances into another function, an address inside of one.
    let assembly = r#"
        static int count; int *at(void) { return &count; }
        __asm__(".text\n.globl hop\n.type hop, @function\nhop: movl $1, %edx\n leaq table(%rip), %rcx\n"
                " movslq (%rcx,%rdi,4), %rax\n addq %rcx, %rax\n jmp *%rax\n.size hop, .-hop\n"
                ".globl lead\n.type lead, @function\nlead: movl $1, %edx\n leaq inside(%rip), %rax\n jmp *%rax\n.size lead, .-lead\n"
                ".type other, @function\nother: nop\nfirst: incl count(%rip)\n movl count(%rip), %eax\n ret\n.size other, .-other\n"
                ".type more, @function\nmore: nop\ninside: incl count(%rip)\n ret\n.size more, .-more\n"
                ".section .rodata\n.align 4\ntable: .long first-table, first-table\n.text\n");
    "#;
    let edited = |function: &str| assembly.replace(&format!("{function}: movl $1"), &format!("{function}: movl $2"));
    assert_eq!(residents(assembly, &edited("hop"), &["-O2"]).0, names(&["hop", "other"]));
    assert_eq!(residents(assembly, &edited("lead"), &["-O2"]).0, names(&["lead", "more"]));
    // Behind the table of one switch stands that of another, in another function.
    let cases: String = (0..8).map(|case| format!("case {case}: return step({case} * {case} + 1) * 3;")).collect();
    let switches = format!(
        "static int count; __attribute__((noinline)) int step(int x) {{ return count += x; }}\n\
         int hop(int x) {{ switch (x) {{ {cases} }} return 1; }} int other(int x) {{ switch (x) {{ {cases} }} return 2; }}"
    );
    assert_eq!(residents(&switches, &switches.replace("return 1", "return 3"), &["-O1"]).0, names(&["hop"]));
    // Labels in data, which old code may come to jump to.
    let labels = "int count; int work(int x) { return x + 1; } int hop(int x) { static void *to[] = {&&one, &&two};\n\
                  goto *to[x & 1]; one: return ++count; two: return --count; }";
    assert_eq!(residents(labels, &labels.replace("x + 1", "x + 2"), &["-O0"]).0, names(&["work", "hop"]));
}

#[test]
fn where_it_cannot_be_told_everything_may_run_in_the_shadow() {
    let edited = BASE.replace("* 2", "* 3 + x");
    let (inside, called) = residents(BASE, &edited, &["-O2", "-s"]);
    assert!(inside.iter().any(|name| name == "pick") && called.is_empty(), "{inside:?} {called:?}");
    let chosen = |source: &str| {
        format!(
            "{source}\nstatic int (*choose(void))(int) {{ return pick; }}\nint chosen(int) __attribute__((ifunc(\"choose\")));"
        )
    };
    let (inside, called) = residents(&chosen(BASE), &chosen(&edited), &["-O2"]);
    assert!(inside.iter().any(|name| name == "pick") && called.is_empty(), "{inside:?} {called:?}");
}

/// LLVM makes a table of 32-bit distances of the names; these differ as soon as anything moves.
#[test]
fn a_table_of_distances_is_what_it_leads_to() {
    let check = |from: &str, to: &str, changed: &[&str]| {
        let flags = ["-Copt-level=2", "-Cpanic=abort"];
        let plan = plan_by("rustc", NAMING, &NAMING.replace(from, to), &flags).expect("a plan");
        assert_eq!(plan.details.changed, changed, "{from} -> {to}");
    };
    check("some words", "some quite different words, so that all the others move", &["before"]);
    check("\"third\"", "\"thrid\"", &["name"]);
    check("2 => \"second\", 3 => \"third\"", "3 => \"second\", 2 => \"third\"", &["name"]);
}

#[test]
fn a_program_that_copies_another_modules_variable_late_is_told() {
    let source = |body: &str| {
        format!("extern char **environ; long first(void) {{ {body} }} int main(void) {{ return first(); }}")
    };
    let (without, with) = (source("return 1;"), source("return environ[0][0];"));
    let plan = plan_by("program", &without, &with, &["-O1"]).expect("a plan");
    assert!(plan.warnings.iter().any(|line| line.contains("environ") && line.contains("-fPIC")), "{:?}", plan.warnings);
    // One that both have is shared, and code that asks the loader finds the variable itself.
    let plan = plan_by("program", &with, &source("return environ[0][1];"), &["-O1"]).expect("a plan");
    assert!(!plan.warnings.iter().any(|line| line.contains("environ")), "{:?}", plan.warnings);
    let plan = plan_by("program", &without, &with, &["-O1", "-fPIC"]).expect("a plan");
    assert!(!plan.warnings.iter().any(|line| line.contains("environ")), "{:?}", plan.warnings);
}

#[test]
fn a_changed_main_takes_effect_later() {
    let source = |number: u32| format!("int main(int count, char **words) {{ return count + {number}; }}");
    let plan = plan_by("program", &source(1), &source(2), &["-O1"]).expect("a plan");
    assert!(plan.warnings.iter().any(|line| line.starts_with("`main` is running")), "{:?}", plan.warnings);
}
