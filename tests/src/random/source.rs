//! A C library as a value: its statics and functions, and the C text of them.
//!
//! Says what stands in the source, never what a process makes of it: that is the machine's.

use std::fmt::Write as _;

/// One version of a library.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// In the order of their definition.
    pub statics: Vec<Static>,
    pub constants: Vec<Constant>,
    pub functions: Vec<Function>,
    /// Functions may be inlined into one another.
    pub inlining: bool,
}

/// How many source files a library has at most.
pub const UNITS: u8 = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Static {
    pub name: String,
    /// The source file it stands in; a name may stand for another static in another one.
    pub unit: u8,
    pub storage: Storage,
    pub element: Element,
    pub cells: Vec<Cell>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    Internal,
    Hidden,
    Exported,
    Weak,
    ThreadLocal,
    /// Inside the function of this name.
    Local(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    Char,
    Short,
    Int,
    Long,
    /// Pointer to a long.
    Pointer,
    /// Pointer to a function.
    Code,
    /// Pointer to a string.
    Text,
}

/// What an element of a static is initialised with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    Number(i64),
    Null,
    /// The address of an element of a static of longs; an index as large as its length is one past the end.
    Into {
        unit: u8,
        name: String,
        index: usize,
    },
    /// An element of a constant.
    Constant {
        name: String,
        index: usize,
    },
    Function(String),
    Text(String),
}

/// A `static const` table of longs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constant {
    pub name: String,
    pub values: Vec<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Unique in its library.
    pub name: String,
    pub unit: u8,
    /// What [`Source::render`]'s `find` knows it by; stays through the versions.
    pub id: u32,
    pub exported: bool,
    /// May be called by others and pointed to, and calls none.
    pub leaf: bool,
    pub salt: u32,
    pub steps: Vec<Step>,
}

/// A statement of a function `u f(u x, u y)`, which returns `r`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `r += S[i]`
    Element(String, usize),
    /// Folds all elements of a static of numbers into `r`.
    Walk(String, Way),
    /// `r += C[(y + i) % n]`
    Constant(String, usize),
    /// Folds the characters of a literal into `r`.
    Literal(String),
    /// What the pointer leads to, if it is not null.
    Follow(String, usize),
    /// Calls what the pointer leads to, if it is not null.
    CallThrough(String, usize),
    /// Folds the string that the pointer leads to.
    Read(String, usize),
    Call(String),
    /// Element `x` as it stands, strings by their content.
    Peek(String),
    /// Sets element `x` to `y`.
    Poke(String),
    /// The function's own static: sets element `x - 1` to `y` if there is one, then folds all.
    Own(String),
}

/// How a loop goes through an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Index,
    /// Counts its elements, the first as 1, and does not know the count before it runs.
    IndexFromOne,
    /// Nor where it begins.
    IndexFromAny,
    PointerToEnd,
    PointerBelowEnd,
    IndexDown,
    PointerDown,
}

impl Element {
    pub fn is_number(self) -> bool {
        matches!(self, Element::Char | Element::Short | Element::Int | Element::Long)
    }

    pub fn size(self) -> usize {
        match self {
            Element::Char => 1,
            Element::Short => 2,
            Element::Int => 4,
            _ => 8,
        }
    }
}

impl Static {
    pub fn size(&self) -> usize {
        self.element.size() * self.cells.len()
    }

    pub fn key(&self) -> Key {
        match &self.storage {
            Storage::Local(function) => (self.unit, format!("{function}/{}", self.name)),
            _ => (self.unit, self.name.clone()),
        }
    }

    fn definition(&self) -> String {
        let prefix = match self.storage {
            Storage::Internal | Storage::Local(_) => "static ",
            Storage::Hidden => "__attribute__((visibility(\"hidden\"))) ",
            Storage::Exported => "",
            Storage::Weak => "__attribute__((weak)) ",
            Storage::ThreadLocal => "static __thread ",
        };
        let count = self.cells.len();
        let declarator = match self.element {
            Element::Char => format!("signed char {}[{count}]", self.name),
            Element::Short => format!("short {}[{count}]", self.name),
            Element::Int => format!("int {}[{count}]", self.name),
            Element::Long => format!("long {}[{count}]", self.name),
            Element::Pointer => format!("const long *{}[{count}]", self.name),
            Element::Code => format!("u (*{}[{count}])(u, u)", self.name),
            Element::Text => format!("const char *{}[{count}]", self.name),
        };
        if self.cells.iter().all(|cell| matches!(cell, Cell::Number(0) | Cell::Null)) {
            return format!("{prefix}{declarator};\n");
        }
        let cells: Vec<String> = self.cells.iter().map(Cell::text).collect();
        format!("{prefix}{declarator} = {{{}}};\n", cells.join(", "))
    }
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Cell::Number(value) => format!("{value}L"),
            Cell::Null => "0".into(),
            Cell::Into { name, index, .. } | Cell::Constant { name, index } => format!("{name} + {index}"),
            Cell::Function(name) => name.clone(),
            Cell::Text(text) => format!("\"{text}\""),
        }
    }
}

/// What a static is known by through the versions.
pub type Key = (u8, String);

impl Source {
    pub fn constant(&self, name: &str) -> &Constant {
        self.constants.iter().find(|constant| constant.name == name).expect("only known constants are named")
    }

    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name == name)
    }

    /// The static that a function means by a name.
    pub fn seen_by(&self, function: &Function, name: &str) -> &Static {
        let own = Storage::Local(function.name.clone());
        let mut named = self.statics.iter().filter(|it| it.unit == function.unit && it.name == name);
        let all: Vec<&Static> = named.by_ref().collect();
        let local = all.iter().find(|it| it.storage == own);
        let global = all.iter().find(|it| !matches!(it.storage, Storage::Local(_)));
        local.or(global).expect("only known statics are named")
    }

    pub fn keyed(&self, key: &Key) -> Option<&Static> {
        self.statics.iter().find(|it| it.key() == *key)
    }

    /// The text of one source file.
    pub fn render(&self, unit: u8) -> String {
        let mut text = String::from("typedef unsigned long u;\n");
        for constant in &self.constants {
            let values: Vec<String> = constant.values.iter().map(|value| format!("{value}L")).collect();
            let (name, count) = (&constant.name, values.len());
            let _ = writeln!(text, "static const long {name}[{count}] = {{{}}};", values.join(", "));
        }
        for function in &self.functions {
            let _ = writeln!(text, "{};", function.head(self.inlining));
        }
        // What points to others comes behind them.
        let (plain, pointing): (Vec<&Static>, Vec<&Static>) = self
            .statics
            .iter()
            .filter(|it| it.unit == unit && !matches!(it.storage, Storage::Local(_)))
            .partition(|it| it.element.is_number());
        for it in plain.iter().chain(&pointing) {
            text += &it.definition();
        }
        for function in self.functions.iter().filter(|function| function.unit == unit) {
            self.render_function(function, &mut text);
        }
        self.render_find(unit, &mut text);
        text
    }

    fn render_function(&self, function: &Function, text: &mut String) {
        let _ = writeln!(text, "{} {{", function.head(self.inlining));
        let own = Storage::Local(function.name.clone());
        for it in self.statics.iter().filter(|it| it.unit == function.unit && it.storage == own) {
            text.push_str(&it.definition());
        }
        let _ = writeln!(text, "u r = {}UL;", function.salt);
        for step in &function.steps {
            text.push_str(&self.render_step(function, step));
        }
        text.push_str("return r;\n}\n");
    }

    fn render_step(&self, function: &Function, step: &Step) -> String {
        let element = |name: &str| match self.seen_by(function, name).element {
            Element::Char => "signed char",
            Element::Short => "short",
            Element::Int => "int",
            _ => "long",
        };
        let count = |name: &str| self.seen_by(function, name).cells.len();
        match step {
            Step::Element(name, index) => format!("r += (u){name}[{index}];\n"),
            Step::Walk(name, way) => {
                let (ty, n) = (element(name), count(name));
                match way {
                    Way::Index => format!("for (int i = 0; i < {n}; i++) r = r * 31 + (u){name}[i];\n"),
                    Way::IndexFromOne | Way::IndexFromAny => {
                        // Of a loop over a single element gcc leaves no loop, only the index.
                        let first = if *way == Way::IndexFromAny { "m" } else { "1" };
                        format!(
                            "{{ volatile u m = 1, n = {n}; for (u i = {first}, end = n; i <= end; i++) \
                             r = r * 31 + (u){name}[i - 1] * i; }}\n"
                        )
                    }
                    Way::PointerToEnd => {
                        format!("for ({ty} *p = {name}; p != {name} + {n}; p++) r = r * 31 + (u)*p;\n")
                    }
                    Way::PointerBelowEnd => {
                        format!("for ({ty} *p = {name}; p < &{name}[{n}]; ++p) r = r * 31 + (u)*p;\n")
                    }
                    Way::IndexDown => format!("for (int i = {n}; i > 0; i--) r = r * 31 + (u){name}[i - 1];\n"),
                    Way::PointerDown => {
                        format!("for ({ty} *p = {name} + {n}; p != {name};) r = r * 31 + (u)*--p;\n")
                    }
                }
            }
            Step::Constant(name, index) => {
                format!("r += (u){name}[(y + {index}) % {}];\n", self.constant(name).values.len())
            }
            Step::Literal(literal) => {
                format!("for (const char *volatile s = \"{literal}\"; *s; s++) r = r * 31 + (u)*s;\n")
            }
            Step::Follow(name, index) => format!("if ({name}[{index}]) r += (u)*{name}[{index}];\n"),
            Step::CallThrough(name, index) => format!("if ({name}[{index}]) r += {name}[{index}](x, y);\n"),
            Step::Read(name, index) => {
                format!("for (const char *s = {name}[{index}]; s && *s; s++) r = r * 31 + (u)*s;\n")
            }
            Step::Call(name) => format!("r += {name}(x, y);\n"),
            Step::Peek(name) if self.seen_by(function, name).element == Element::Text => {
                format!("for (const char *s = {name}[x]; s && *s; s++) r = r * 31 + (u)*s;\n")
            }
            Step::Peek(name) => format!("r += (u){name}[x];\n"),
            Step::Poke(name) => format!("{name}[x] = (__typeof__({name}[0]))y;\n"),
            Step::Own(name) => {
                let n = count(name);
                format!(
                    "if (x - 1 < {n}) {name}[x - 1] = ({})y;\nfor (int i = 0; i < {n}; i++) r = r * 31 + (u){name}[i];\n",
                    element(name)
                )
            }
        }
    }

    /// `find(id)`: where a function or, from [`ADDRESSES`] on, a static lies; 0 for what is not there.
    fn render_find(&self, unit: u8, text: &mut String) {
        let last = unit + 1 == UNITS || !self.has_unit(unit + 1);
        if !last {
            let _ = writeln!(text, "u find_{}(u);", unit + 1);
        }
        // The first is asked for by name, whatever the flags make hidden.
        let name = if unit == 0 { "find".to_owned() } else { format!("find_{unit}") };
        let functions = self.functions.iter().filter(|function| function.unit == unit);
        let functions = functions.map(|function| format!("{{{}, (u){}}}", function.id, function.name));
        let statics = self.statics.iter().filter(|it| it.unit == unit && it.has_address());
        let statics = statics.map(|it| format!("{{{}, (u){}}}", it.address_id(), it.name));
        let known: Vec<String> = functions.chain(statics).collect();
        let (count, known) = (known.len(), known.join(", "));
        let rest = if last { "0".into() } else { format!("find_{}(id)", unit + 1) };
        let _ = writeln!(
            text,
            "__attribute__((visibility(\"default\"))) u {name}(u id) {{\n\
             static const struct {{ u id, address; }} known[{count}] = {{{known}}};\n\
             for (int i = 0; i < {count}; i++) if (known[i].id == id) return known[i].address;\nreturn {rest};\n}}"
        );
    }

    pub fn has_unit(&self, unit: u8) -> bool {
        self.functions.iter().any(|function| function.unit == unit)
    }
}

/// Statics are found from this number on.
const ADDRESSES: u32 = 100_000;

impl Static {
    /// Whether one address stands for it wherever it is asked for.
    pub fn has_address(&self) -> bool {
        !matches!(self.storage, Storage::Local(_) | Storage::ThreadLocal)
    }

    /// What `find` knows it by: its name is a letter and a number.
    pub fn address_id(&self) -> u32 {
        let number: u32 = self.name[1..].parse().expect("a letter and a number");
        ADDRESSES + number * u32::from(UNITS) + u32::from(self.unit)
    }
}

impl Function {
    fn head(&self, inlining: bool) -> String {
        let once = if self.leaf && !inlining { "__attribute__((noipa)) " } else { "" };
        let linkage = if self.exported { "" } else { "__attribute__((visibility(\"hidden\"))) " };
        format!("{once}{linkage}u {}(u x, u y)", self.name)
    }
}
