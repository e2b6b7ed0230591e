//! Edits of types between real libraries, built here with debugging information: harmful ones are refused by name, harmless
//! ones are not.

use std::{collections::BTreeMap, path::Path, process::Command, sync::Arc};

use reload_engine::{
    image::Image,
    model::LoadBias,
    plan::{self, Objections, Plan, homes::Homes, lineage::Lineage},
};

mod frames;
mod unchecked;

#[derive(Clone, Copy)]
enum Language {
    C,
    Cpp,
    Rust,
}

fn build(folder: &Path, language: Language, source: &str, flags: &[&str]) -> Arc<Image> {
    let (compiler, extension, basic): (_, _, &[&str]) = match language {
        Language::C => ("gcc", "c", &["-shared", "-fPIC", "-g", "-w"]),
        Language::Cpp => ("g++", "cpp", &["-shared", "-fPIC", "-g", "-w"]),
        Language::Rust => {
            ("rustc", "rs", &["--edition=2024", "--crate-type=cdylib", "-Cdebuginfo=2", "-Awarnings", "--crate-name=p"])
        }
    };
    let (input, output) = (folder.join(format!("p.{extension}")), folder.join("p.so"));
    std::fs::write(&input, source).expect("write the source");
    let mut command = Command::new(compiler);
    command.args(basic).arg("-o").arg(&output).arg(&input).args(flags);
    let built = command.output().expect("the compiler is installed");
    assert!(built.status.success(), "{}\n{source}", String::from_utf8_lossy(&built.stderr));
    Arc::new(Image::parse(&output, std::fs::read(&output).expect("read the library")).expect("parse"))
}

fn plan_between(old: &Arc<Image>, new: Arc<Image>, objections: Objections) -> Result<Plan, Vec<String>> {
    let homes = Homes::of_original(old, LoadBias(0x10_0000), 1, &BTreeMap::new());
    plan::plan(&Lineage::new(Arc::clone(old), LoadBias(0x10_0000), 1, homes), 0, new, objections)
}

/// An edit: its name, what is replaced by what, and what the refusal must say; `""` for a harmless one.
type Edit = (&'static str, &'static [(&'static str, &'static str)], &'static str);

/// Every edit of `base` under every set of flags; all that go wrong are told together.
/// A harmful one comes with the edit `touch` of some function: where no code differs, none would misread anything.
fn check(language: Language, base: &str, touch: (&str, &str), flag_sets: &[&[&str]], edits: &[Edit]) {
    let mut failures = Vec::new();
    for flags in flag_sets {
        let folder = tempfile::tempdir().expect("a folder");
        let old = build(folder.path(), language, base, flags);
        for (name, replacements, expected) in edits {
            let mut source = base.to_owned();
            for (from, to) in *replacements {
                assert!(source.contains(from), "{name}: `{from}` is not in the source");
                source = source.replacen(from, to, 1);
            }
            if !expected.is_empty() {
                source = source.replacen(touch.0, touch.1, 1);
            }
            let new = build(folder.path(), language, &source, flags);
            let told =
                plan_between(&old, new, Objections::Refuse).map(|plan| (plan.statics, plan.details, plan.warnings));
            let right = match &told {
                Ok(_) => expected.is_empty(),
                Err(reasons) => !expected.is_empty() && reasons.iter().any(|reason| reason.contains(expected)),
            };
            if !right {
                failures.push(format!("{flags:?} {name}: expected {expected:?}, told {told:#?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

const C: &str = r#"#include <stdlib.h>
typedef struct { int x; float y; } Pt;
struct Node { struct Node *next; unsigned f1:3, f2:5; union { int i; float d; } u; struct { short s; } in; Pt p; void *opaque; };
union Cell { int i; char c[4]; };
struct Hidden { int a; int b; };
enum Kind { KA, KB, KC };
struct Temp { int a, b; };
struct World { int width; int height; double velocity; struct Node *first; };
static struct Node *head; enum Kind kind = KB; union Cell cells[4]; static int total; static _Thread_local long seen;
static void *handle;
__attribute__((noinline)) static int inner(int x) { return x * 3; }
static inline __attribute__((always_inline)) int twice(int a, int b) { return a * 2 + b; }
void drop(void) { total--; }
int hide(struct Hidden *h) { return h->a + h->b; }
int use(struct Node *n, Pt p) { return n->u.i + p.x + cells[p.x & 3].i + n->f2; }
double step(struct World *w) { w->velocity += w->width; seen++; return w->velocity; }
int local(int k) { struct Temp t = { k, 2 }; int sum = t.a + t.b; return sum + inner(k); }
void *make(void) { struct Node *n = calloc(1, sizeof *n); head = n; n->p.x = 3; total++; handle = n; kind = KA; return n; }
"#;

/// A rollback makes a generation whose analysis was retired the one that the next file is compared with.
#[test]
fn a_retired_generation_still_guards() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = "struct world { int a, b; }; static struct world w; int f(void) { return w.b; }\n\
                  struct world *g(void) { return &w; }";
    let mut old = build(folder.path(), Language::C, source, &[]);
    let types = old.layouts().types.len();
    let image = Arc::get_mut(&mut old).expect("nobody else has it");
    image.retire();
    assert!(!image.layouts().is_known(), "they are freed");
    image.revive().expect("it was built there");
    let new = build(folder.path(), Language::C, &source.replace("int a, b", "int b, a"), &[]);
    let reasons = plan_between(&old, new, Objections::Refuse).expect_err("a field has moved");
    assert!(reasons.join("\n").contains("moved from offset"), "{reasons:?}");
    assert!(types > 0 && old.layouts().types.len() == types);
}

#[test]
fn of_namesakes_each_is_compared_with_what_it_was() {
    check(
        Language::C,
        "int f(void) { static int level; return level += 1; }\n\
         int g(void) { static float level; return level += 1; }\n",
        ("+= 1", "+= 3"),
        &[&["-O0"], &["-O2"]],
        &[(
            "retyped as the other one is",
            &[("static int level", "static float level")],
            "changed from `int` to `float` at the same size",
        )],
    );
}

#[test]
fn harmful_edits_of_c_are_refused() {
    check(
        Language::C,
        C,
        ("x * 3", "x * 9"),
        &[&["-O0"], &["-O2"], &["-O1", "-gdwarf-4"], &["-O0", "-gz"], &["-O0", "-fdebug-types-section"]],
        &[
            (
                "field inserted behind a pointer in a static",
                &[("*next;", "*next; int nn;")],
                "field `f1` moved from bit 64",
            ),
            ("field removed", &[("int width; ", ""), ("w->width", "w->height")], "field `width` is gone"),
            (
                "fields reordered",
                &[("int width; int height;", "int height; int width;")],
                "`World` (p.c:8): field `width` moved from offset 0 to 4",
            ),
            (
                "field moved",
                &[("int height; double", "int height; long extra; double")],
                "field `velocity` moved from offset 8 to 16",
            ),
            ("field resized", &[("int width; int", "short width; int")], "changed from `int` to `short"),
            (
                "field retyped at the same size",
                &[("int width; int", "float width; int")],
                "`width` changed from `int` to `float`",
            ),
            ("bit-fields", &[("f1:3, f2:5", "f1:2, f2:6")], "field `f2`"),
            ("unnamed union in a struct", &[("int i; float d;", "int i; double d;")], "`Node`"),
            ("unnamed struct in a struct", &[("{ short s; }", "{ int s; }")], "`Node`"),
            ("typedef of an unnamed struct", &[("int x; float y;", "float y; int x;")], "`Pt`"),
            ("enumerator inserted", &[("KA, KB", "KA, KZ, KB")], "`Kind` (p.c:6): `KB` moved from value 1 to 2"),
            ("union in a static", &[("char c[4]; }", "short c[2]; }")], "`Cell` (p.c:4): field `c` changed"),
            ("only behind a parameter", &[("int a; int b; }", "int b; int a; }")], "`Hidden`"),
            (
                "static retyped at the same size",
                &[("static int total", "static float total")],
                "the static `total` changed from `int` to `float`",
            ),
            (
                "thread-local retyped",
                &[("_Thread_local long", "_Thread_local double")],
                "`seen` changed from `long int` to `double`",
            ),
            (
                "parameter retyped",
                &[("int hide(struct Hidden *h)", "int hide(long k, struct Hidden *h)")],
                "`hide` changed its parameters",
            ),
            (
                "result retyped",
                &[("double step(struct World *w)", "long step(struct World *w)")],
                "`step` changed what it returns",
            ),
            (
                "structure where there was no result",
                &[(
                    "void drop(void) { total--; }",
                    "struct Big { long all[3]; }; const struct Big drop(void) { struct Big big = { { --total } }; return big; }",
                )],
                "`drop` changed what it returns",
            ),
        ],
    );
}

#[test]
fn harmless_edits_of_c_are_not() {
    check(
        Language::C,
        C,
        ("x * 3", "x * 9"),
        &[&["-O0"], &["-O2"], &["-O1", "-gdwarf-4"], &["-O0", "-gz"], &["-O0", "-fdebug-types-section"]],
        &[
            ("nothing", &[], ""),
            ("body", &[("x * 3", "x * 4 + 1")], ""),
            ("new function", &[("int hide", "int fresh(int q) { return q - 1; }\nint hide")], ""),
            (
                "new type",
                &[("int hide", "struct Fresh { int z; }; int fresh(struct Fresh *f) { return f->z; }\nint hide")],
                "",
            ),
            ("new local struct", &[("int sum =", "struct L { int q; } l = { k }; int sum = l.q +")], ""),
            ("lines", &[("typedef", "/* one */\n\n\ntypedef"), ("x * 3", "x * 5")], ""),
            ("local renamed", &[("int sum = t.a + t.b; return sum", "int all = t.a + t.b + 1; return all")], ""),
            (
                "type on the stack",
                &[("struct Temp { int a, b; }", "struct Temp { int c, a, b; }"), ("{ k, 2 }", "{ 0, k, 2 }")],
                "",
            ),
            ("new enumeration", &[("enum Kind", "enum Other { OA, OB };\nenum Kind"), ("x * 3", "x * OB")], ""),
            ("enumerator added at the end", &[("KB, KC", "KB, KC, KD"), ("kind = KA;", "kind = KD;")], ""),
            (
                "reordered",
                &[
                    ("enum Kind { KA, KB, KC };\n", ""),
                    ("typedef", "enum Kind { KA, KB, KC };\ntypedef"),
                    ("x * 3", "x * 7"),
                ],
                "",
            ),
            ("constant", &[("n->p.x = 3", "n->p.x = 33")], ""),
            ("pointer to a static that is known", &[("x * 3", "({ int *all = &total; *all += x; *all * 3; })")], ""),
            (
                "new static",
                &[("static void *handle", "static int fresh; static void *handle"), ("x * 3", "x * 3 + fresh++")],
                "",
            ),
            (
                "result where there was none",
                &[("void drop(void) { total--; }", "int drop(void) { return --total; }")],
                "",
            ),
            (
                "structure in registers where there was no result",
                &[(
                    "void drop(void) { total--; }",
                    "struct Two { long a, b; }; struct Two drop(void) { struct Two two = { --total }; return two; }",
                )],
                "",
            ),
            (
                "another function inlined into an exported one",
                &[("return sum + inner(k)", "return sum + twice(inner(k), k)")],
                "",
            ),
            (
                "signature of a static function",
                &[("inner(int x) { return x", "inner(double d, int x) { return d + x"), ("inner(k)", "inner(2.0, k)")],
                "",
            ),
            (
                "another name for the same type",
                &[
                    ("int height; double velocity", "int height; real velocity"),
                    ("struct World {", "typedef double real; struct World {"),
                    ("x * 3", "x * 6"),
                ],
                "",
            ),
        ],
    );
}

const CPP: &str = r#"#include <map>
#include <memory>
#include <string>
#include <vector>
namespace g {
struct Base { virtual ~Base() {} virtual int a() { return 1; } virtual int b() { return 2; } int z = 0; };
struct Mix { long q; };
struct World : Base, Mix { char c; double velocity; std::string name; int b() override { return 3; } };
struct Item { int id; int count; };
struct Pair { int l, r; };
template <class T> struct Holder { T t; int n; };
namespace { struct Anon { int k; int m; }; Anon anon; }
enum class Colour : unsigned char { R, G };
std::unique_ptr<Base> root; Holder<int> held; thread_local Colour colour;
std::vector<Item> items; std::map<std::string, Pair> pairs;
struct Ticker { Base &kept(); };
Base &Ticker::kept() { struct Local : Base { int n = 1; int b() override { return n++; } }; static Local local; return local; }
int run(Base &base, Colour of) { Anon l; l.k = anon.k + 1; auto f = [&](int i) { return i + l.k + (int)of; }; return f(3) + base.a() + held.n; }
}
extern "C" int work(int x) {
    if (!g::root) g::root.reset(new g::World);
    g::items.push_back({x, 1}); g::pairs["x"].l = x; g::anon.m++; g::held.n++; g::colour = g::Colour::G;
    return g::run(*g::root, g::colour) + g::Ticker().kept().b() + x * 2;
}
"#;

#[test]
fn edits_of_cpp() {
    check(
        Language::Cpp,
        CPP,
        ("x * 2", "x * 9"),
        &[&["-O0"], &["-O2"], &["-O1"], &["-O0", "-fdebug-types-section"]],
        &[
            (
                "field in a derived class",
                &[("double velocity;", "int extra; double velocity;")],
                "`g::World` (p.cpp:8): field",
            ),
            (
                "virtual function inserted",
                &[("virtual int b() {", "virtual int m() { return 9; } virtual int b() {")],
                "virtual function `b` moved from slot 3 to 4",
            ),
            (
                "virtual functions swapped",
                &[(
                    "virtual int a() { return 1; } virtual int b() { return 2; }",
                    "virtual int b() { return 2; } virtual int a() { return 1; }",
                )],
                "`g::Base`",
            ),
            (
                "base class exchanged",
                &[("struct World : Base, Mix", "struct Nix { long q; };\nstruct World : Base, Nix")],
                "base class `Mix` is gone",
            ),
            ("base class removed", &[("World : Base, Mix", "World : Base")], "base class `Mix` is gone"),
            ("element of a vector", &[("int id; int count;", "int count; int id;")], "`g::Item`"),
            ("value of a map", &[("int l, r;", "short l, r;")], "`g::Pair`"),
            ("in an unnamed namespace", &[("int k; int m;", "int m; int k;")], "Anon`"),
            ("template", &[("T t; int n;", "int n; T t;")], "Holder<int>`"),
            ("enumerators swapped", &[("{ R, G }", "{ G, R }")], "`g::Colour`"),
            ("class inside of a method", &[("int n = 1;", "int m = 0, n = 1;")], "kept::Local` (p.cpp:17): field `n`"),
            (
                "code that moves what a class inside of a method has",
                &[("int run(Base &base, Colour of) {", "int run(Base &base, Colour of) { items.push_back({1, 2});")],
                "",
            ),
            ("nothing", &[], ""),
            (
                "base classes swapped that lie as they did",
                &[("World : Base, Mix", "World : Mix, Base"), ("x * 2", "x * 6")],
                "",
            ),
            ("body", &[("x * 2", "x * 3")], ""),
            (
                "new method",
                &[("int b() override", "int fresh() { return 4; } int b() override"), ("x * 2", "x * 5")],
                "",
            ),
            (
                "override added",
                &[
                    ("char c; double velocity;", "int a() override { return 5; } char c; double velocity;"),
                    ("x * 2", "x * 5"),
                ],
                "",
            ),
            ("override removed", &[("int b() override { return 3; } };", "};"), ("x * 2", "x * 5")], ""),
            (
                "virtual function of a derived class",
                &[
                    ("char c; double velocity;", "virtual int c2() { return 5; } char c; double velocity;"),
                    ("x * 2", "x * 5"),
                ],
                "virtual function `c2` is new",
            ),
            (
                "new class",
                &[
                    ("struct Mix", "struct Fresh { int i; int f() { return i; } };\nstruct Mix"),
                    ("x * 2", "x * (g::Fresh{4}).f()"),
                ],
                "",
            ),
            (
                "static member",
                &[
                    ("struct Mix { long", "struct Mix { static int shared; long"),
                    ("namespace {", "int Mix::shared = 5; namespace {"),
                    ("x * 2", "x * g::Mix::shared"),
                ],
                "",
            ),
            ("lines", &[("namespace g", "// one\n// two\nnamespace g"), ("x * 2", "x * 8")], ""),
        ],
    );
}

const RUST: &str = r#"
use std::{any::Any, cell::RefCell, collections::HashMap, fmt::Debug, future::Future, sync::Mutex, rc::Rc};
#[derive(Debug, Clone, Default)] pub struct World { a: u8, velocity: u64, count: i64 }
#[derive(Debug)] pub struct Item { id: u32, size: u32 }
#[derive(Debug)] pub struct Entry { left: u16, right: u16 }
#[derive(Debug)] pub struct Temp { x: u32, y: u32 }
pub struct Plugin { ticks: u64, gauge: u32, level: u32 }
#[derive(Debug)] pub enum Event { Key(u32), Move { x: u64 }, Quit }
#[derive(Debug, Clone, Copy, PartialEq)] pub enum Mode { Idle, Busy, Done }
#[repr(C)] pub union Bits { i: u64, f: f64 }
pub trait Shape { fn area(&self) -> u32; fn edges(&self) -> u32; }
pub struct Square { side: u32, tag: u32 }
impl Shape for Square { fn area(&self) -> u32 { self.side } fn edges(&self) -> u32 { self.tag } }
static WORLD: Mutex<Option<Box<World>>> = Mutex::new(None);
static ITEMS: Mutex<Vec<Item>> = Mutex::new(Vec::new());
static ENTRIES: Mutex<Option<HashMap<String, Entry>>> = Mutex::new(None);
static EVENT: Mutex<Vec<Event>> = Mutex::new(Vec::new());
static MODE: Mutex<Vec<Mode>> = Mutex::new(Vec::new());
static SHAPES: Mutex<Vec<Box<dyn Shape + Send>>> = Mutex::new(Vec::new());
static mut COUNT: u32 = 1;
static mut BITS: Bits = Bits { i: 1 };
thread_local! { static LOCAL: RefCell<Vec<(u8, u16)>> = const { RefCell::new(Vec::new()) }; }
fn total(t: &Temp) -> u32 { let sum = t.x + t.y; sum }
fn apply(f: &dyn Fn(u32) -> u32) -> u32 { f(1) }
async fn inner(n: u32) -> u32 { n + 1 }
async fn task(n: u32) -> u32 { let first = inner(n).await; first + n }
#[unsafe(no_mangle)] pub extern "C" fn plugin_new() -> *mut Plugin { Box::into_raw(Box::new(Plugin { ticks: 0, gauge: 1, level: 2 })) }
#[unsafe(no_mangle)] pub unsafe extern "C" fn plugin_tick(plugin: *mut Plugin) -> u64 { let plugin = unsafe { &mut *plugin }; plugin.ticks += 1; plugin.ticks + u64::from(plugin.gauge + plugin.level) }
#[unsafe(no_mangle)] pub extern "C" fn make(n: u32) -> usize {
    let captured = n * 2;
    let held: Box<dyn Fn() -> u32 + Send> = Box::new(move || captured + n);
    let waits: Box<dyn Future<Output = u32>> = Box::new(task(n));
    HELD.lock().unwrap().push(held);
    Box::leak(Box::new(waits)) as *const _ as usize
}
static HELD: Mutex<Vec<Box<dyn Fn() -> u32 + Send>>> = Mutex::new(Vec::new());
#[unsafe(no_mangle)] pub extern "C" fn work(n: u32) -> u32 {
    *WORLD.lock().unwrap() = Some(Box::new(World { a: 1, velocity: 2, ..Default::default() }));
    ITEMS.lock().unwrap().push(Item { id: n, size: 1 });
    ENTRIES.lock().unwrap().get_or_insert_default().insert("k".into(), Entry { left: 1, right: 2 });
    EVENT.lock().unwrap().push(Event::Move { x: 3 });
    MODE.lock().unwrap().push(Mode::Busy);
    SHAPES.lock().unwrap().push(Box::new(Square { side: n, tag: 4 }));
    LOCAL.with_borrow_mut(|local| local.push((1, 2)));
    let extra = n + 3;
    let more = apply(&|x| x + extra);
    println!("{:?} {:?}", WORLD.lock(), Temp { x: 1, y: 2 });
    unsafe { COUNT += 1; BITS.i += 1; total(&Temp { x: COUNT, y: n }) + more + plugin_new().is_null() as u32 }
}
"#;

#[test]
fn harmful_edits_of_rust_are_refused() {
    check(
        Language::Rust,
        RUST,
        ("n + 3", "n + 13"),
        &[&[], &["-Copt-level=2", "-Csymbol-mangling-version=v0"]],
        &[
            ("field inserted", &[("a: u8, velocity", "a: u8, extra: u64, velocity")], "`p::World`: field `"),
            (
                "field inserted into padding",
                &[("a: u8, velocity", "a: u8, extra: u16, velocity")],
                "field `extra` is new",
            ),
            ("field removed", &[("velocity: u64, count: i64", "velocity: u64")], "field `count` is gone"),
            (
                "field retyped at the same size",
                &[("count: i64", "count: f64")],
                "`p::World`: field `count` changed from `i64` to `f64`",
            ),
            (
                "fields reordered",
                &[("velocity: u64, count: i64", "count: i64, velocity: u64")],
                "`p::World`: field `velocity` moved",
            ),
            ("element of a Vec", &[("id: u32, size: u32", "id: u32, size: i32")], "`p::Item`: field `size`"),
            ("value of a HashMap", &[("left: u16, right: u16", "right: u16, left: u16")], "`p::Entry`"),
            ("variant inserted", &[("Key(u32), Move", "Key(u32), None, Move")], "`p::Event`"),
            (
                "variant's field",
                &[("Move { x: u64 }", "Move { x: i64 }"), ("Event::Move { x: 3 }", "Event::Move { x: 4 }")],
                "`p::Event::Move`: field `x`",
            ),
            ("fieldless variant inserted", &[("Idle, Busy", "Idle, Paused, Busy")], "`Busy` moved from value 1 to 2"),
            (
                "trait object's implementor",
                &[("side: u32, tag: u32", "side: u32, tag: i32"), ("{ self.tag }", "{ self.tag as u32 }")],
                "`p::Square`",
            ),
            (
                "trait method added",
                &[("fn edges(&self) -> u32; }", "fn edges(&self) -> u32; fn third(&self) -> u32 { 3 } }")],
                "field `vtable` changed: the trait has 3 methods instead of 2",
            ),
            ("union", &[("f: f64 }", "f: f32 }")], "`p::Bits`"),
            (
                "behind the host's handle",
                &[
                    ("gauge: u32, level: u32", "gauge: u32, level: i32"),
                    ("plugin.gauge + plugin.level", "plugin.gauge + plugin.level as u32"),
                ],
                "`p::Plugin`",
            ),
            (
                "boxed closure's captures",
                &[
                    ("move || captured + n)", "move || captured + n + late)"),
                    ("let held", "let late = n + 9; let held"),
                ],
                "{closure_env#0}",
            ),
            (
                "coroutine's state",
                &[("first + n }", "let second = inner(n).await; first + second + n }")],
                "{async_fn_env#0}",
            ),
        ],
    );
}

#[test]
fn harmless_edits_of_rust_are_not() {
    check(
        Language::Rust,
        RUST,
        ("n + 3", "n + 13"),
        &[&[], &["-Copt-level=2", "-Csymbol-mangling-version=v0"]],
        &[
            ("nothing", &[], ""),
            ("body", &[("n + 3", "n + 4")], ""),
            ("coroutine's body", &[("first + n }", "first * 2 + n }")], ""),
            ("closure's body", &[("captured + n)", "captured * 3 + n)")], ""),
            (
                "new function",
                &[("fn total", "#[unsafe(no_mangle)] pub extern \"C\" fn fresh(n: u32) -> u32 { n * 7 }\nfn total")],
                "",
            ),
            (
                "new type",
                &[
                    ("fn total", "#[derive(Debug)] pub struct Fresh(u8, Vec<u32>);\nfn total"),
                    ("let extra", "println!(\"{:?}\", Fresh(1, vec![2])); let extra"),
                ],
                "",
            ),
            ("lines", &[("use std", "// one\n// two\nuse std"), ("n + 3", "n + 5")], ""),
            ("local renamed", &[("let sum = t.x + t.y; sum", "let all = t.x + t.y + 1; all")], ""),
            (
                "type on the stack",
                &[
                    ("Temp { x: u32, y: u32 }", "Temp { w: u64, x: u32, y: u32 }"),
                    ("Temp { x: 1", "Temp { w: 1, x: 1"),
                    ("Temp { x: COUNT", "Temp { w: 1, x: COUNT"),
                ],
                "",
            ),
            ("captures of a borrowed closure", &[("|x| x + extra", "|x| x + extra + n")], ""),
            (
                "new enumeration",
                &[
                    ("#[repr(C)]", "#[derive(Debug)] enum Fresh { One, Two(u8) }\n#[repr(C)]"),
                    ("let extra", "println!(\"{:?} {:?}\", Fresh::One, Fresh::Two(1)); let extra"),
                ],
                "",
            ),
            (
                "closure inserted before others",
                &[("let captured", "let twice = |x: u32| x * 2; println!(\"{}\", twice(n)); let captured")],
                "",
            ),
            (
                "new instance of a generic",
                &[("let extra", "let v: Vec<u16> = vec![1]; println!(\"{v:?}\"); let extra")],
                "",
            ),
            (
                "new method",
                &[
                    ("fn total", "impl World { pub fn fresh(&self) -> u64 { self.velocity } }\nfn total"),
                    ("let extra", "println!(\"{}\", World::default().fresh()); let extra"),
                ],
                "",
            ),
            ("constant", &[("id: n, size: 1", "id: n, size: 11")], ""),
        ],
    );
}

/// Under the older mangling a static's symbol changes with its type, so that it starts anew; under the newer it stays.
#[test]
fn what_a_rust_static_holds_itself() {
    check(
        Language::Rust,
        "use std::sync::Mutex;
        pub enum Event { Key(u32), Move { x: u64 }, Quit }
        pub enum Mode { Idle, Busy }
        static EVENT: Mutex<Event> = Mutex::new(Event::Quit);
        static MODE: Mutex<Mode> = Mutex::new(Mode::Idle);
        static COUNT: Mutex<(u32, u32)> = Mutex::new((0, 0));
        #[unsafe(no_mangle)] pub extern \"C\" fn work(n: u32) -> u32 {
            *EVENT.lock().unwrap() = Event::Move { x: 3 };
            *MODE.lock().unwrap() = Mode::Busy;
            COUNT.lock().unwrap().1 += 1; n + 3
        }",
        ("n + 3", "n + 13"),
        &[&["-Csymbol-mangling-version=v0"], &["-Copt-level=2", "-Csymbol-mangling-version=v0"]],
        &[
            ("nothing", &[], ""),
            ("variant inserted", &[("Key(u32), ", "Key(u32), Other(u8), ")], "`p::Event`"),
            ("fieldless variant inserted", &[("Idle, Busy", "Idle, Paused, Busy")], "`Busy` moved from value 1 to 2"),
            ("fieldless variant added at the end", &[("Idle, Busy", "Idle, Busy, Paused"), ("n + 3", "n + 4")], ""),
            ("static retyped", &[("Mutex<(u32, u32)>", "Mutex<(u32, i32)>")], "the static `p::COUNT` changed from"),
        ],
    );
}

/// A Rust function that the host calls by name is told what another function would be told.
#[test]
fn exported_functions_of_rust() {
    check(
        Language::Rust,
        "#[unsafe(no_mangle)] pub extern \"C\" fn step(a: i32, b: i32) -> i32 { a - b }
        fn inside(a: u32) -> u32 { std::hint::black_box(a) + 1 }
        #[unsafe(no_mangle)] pub extern \"C\" fn work(n: u32) -> u32 { inside(n) + n + 3 }",
        ("n + 3", "n + 13"),
        &[&[], &["-Copt-level=2", "-Csymbol-mangling-version=v0"]],
        &[
            ("parameter inserted", &[("a: i32, b: i32", "k: u64, a: i32, b: i32")], "`step` changed its parameters"),
            (
                "result retyped",
                &[("b: i32) -> i32 { a - b", "b: i32) -> i64 { i64::from(a) - i64::from(b)")],
                "`step` changed what",
            ),
            (
                "one that only the library calls",
                &[
                    (
                        "inside(a: u32) -> u32 { std::hint::black_box(a)",
                        "inside(a: u64) -> u32 { std::hint::black_box(a as u32)",
                    ),
                    ("inside(n)", "inside(n as u64)"),
                ],
                "",
            ),
        ],
    );
}

#[test]
fn the_user_may_take_the_risk() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = build(folder.path(), Language::C, C, &[]);
    let new = build(folder.path(), Language::C, &C.replace("int width;", "long width;"), &[]);
    let plan = plan_between(&old, Arc::clone(&new), Objections::Warn).expect("a plan");
    assert!(plan.warnings.iter().any(|line| line.contains("forced: `World`")), "{:?}", plan.warnings);
    assert!(plan_between(&old, new, Objections::Settled).expect("a plan").warnings.is_empty());
}
