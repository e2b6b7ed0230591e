//! What a process that reloads generated libraries must hold and answer: every static by identity and value, every function
//! by the generation that runs it.
//!
//! An interpreter of [`Source`]; it knows the rules a user is promised, and nothing of how the engine keeps them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::source::{Cell, Element, Function, Key, Source, Static, Step, Storage, Way};

/// A process and the generations of one library in it.
#[derive(Debug, Default)]
pub struct Machine {
    generations: Vec<Generation>,
    places: Vec<Place>,
    /// Where each function's first generation was found to lie.
    pub entries: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Generation {
    source: Arc<Source>,
    places: HashMap<Key, usize>,
}

/// Storage of a static.
#[derive(Debug)]
struct Place {
    /// By thread where it is thread-local, else only the first counts.
    contents: [Contents; THREADS],
    initial: Contents,
    address: Option<u64>,
}

pub const THREADS: usize = 2;

#[derive(Clone, Debug, PartialEq)]
enum Contents {
    Numbers(Vec<u8>),
    Pointers(Vec<Value>),
}

/// What a pointer holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Into { place: usize, offset: usize },
    Constant { generation: usize, name: String, index: usize },
    Function(String),
    Text(String),
}

/// What a reload must lead to.
#[derive(Debug, Default)]
pub struct Expected {
    pub kept: usize,
    pub new: usize,
    pub reset: usize,
    pub merged: usize,
    pub added: usize,
    pub removed: usize,
    /// At least these are changed.
    pub changed: usize,
    /// Kept statics whose initialiser changed and that the program changed too.
    pub both_changed: Vec<String>,
    /// Statics that have another type of the same size now.
    pub retyped: Vec<String>,
    bindings: HashMap<Key, Binding>,
}

#[derive(Debug)]
enum Binding {
    Keep(usize),
    Merge(usize),
    Fresh,
}

impl Machine {
    pub fn start(source: Source) -> Machine {
        let mut machine = Machine::default();
        let expected = machine.expect(&source);
        machine.reload(source, expected);
        machine
    }

    pub fn current(&self) -> &Source {
        &self.generations.last().expect("started").source
    }

    /// What becomes of each static when `source` is loaded over what runs.
    pub fn expect(&self, source: &Source) -> Expected {
        let mut expected = Expected::default();
        for it in &source.statics {
            let key = it.key();
            let name = it.name.clone();
            let holder = self.generations.iter().rev().find_map(|older| Some((older, older.source.keyed(&key)?)));
            let Some((older, was)) = holder else {
                expected.new += 1;
                expected.bindings.insert(key, Binding::Fresh);
                continue;
            };
            if was.size() != it.size() {
                expected.reset += 1;
                expected.bindings.insert(key, Binding::Fresh);
                continue;
            }
            expected.kept += 1;
            if was.element != it.element {
                expected.retyped.push(name.clone());
            }
            let place = older.places[&key];
            let mut binding = Binding::Keep(place);
            if it.storage != Storage::ThreadLocal
                && described(&older.source, was) != described(source, it)
                && !self.holds(place, it, source)
            {
                if self.untouched(&key, place) {
                    expected.merged += 1;
                    binding = Binding::Merge(place);
                } else {
                    expected.both_changed.push(name);
                }
            }
            expected.bindings.insert(key, binding);
        }
        let known = |name: &str| self.generations.iter().any(|older| older.source.function(name).is_some());
        expected.added = source.functions.iter().filter(|function| !known(&function.name)).count();
        if let Some(parent) = self.generations.last() {
            let gone = |function: &&Function| source.function(&function.name).is_none();
            expected.removed = parent.source.functions.iter().filter(gone).count();
        }
        let changed = |function: &&Function| {
            let running = self.running(&function.name).map(|generation| &self.generations[generation].source);
            let was = running.and_then(|source| source.function(&function.name));
            was.is_some_and(|was| was.salt != function.salt)
        };
        expected.changed = source.functions.iter().filter(changed).count();
        expected
    }

    /// Takes the generation that was expected.
    pub fn reload(&mut self, source: Source, expected: Expected) {
        let generation = self.generations.len();
        let mut places = HashMap::new();
        for it in &source.statics {
            let place = match expected.bindings[&it.key()] {
                Binding::Keep(place) | Binding::Merge(place) => place,
                Binding::Fresh => {
                    let none = Contents::Numbers(Vec::new());
                    let contents = [none.clone(), none.clone()];
                    self.places.push(Place { contents, initial: none, address: None });
                    self.places.len() - 1
                }
            };
            places.insert(it.key(), place);
        }
        self.generations.push(Generation { source: Arc::new(source), places });
        for (key, binding) in expected.bindings {
            let place = self.generations[generation].places[&key];
            if !matches!(binding, Binding::Keep(_)) {
                let initial = self.initial(generation, &key);
                self.places[place].contents = [initial.clone(), initial.clone()];
                self.places[place].initial = initial;
            }
        }
    }

    /// Whether a static holds what one of the generations it has lived in was built with.
    fn untouched(&self, key: &Key, place: usize) -> bool {
        (0..self.generations.len()).any(|generation| {
            self.generations[generation].places.get(key) == Some(&place)
                && self.initial(generation, key) == self.places[place].contents[0]
        })
    }

    /// Whether a static happens to hold already what it is to be initialised with.
    fn holds(&self, place: usize, it: &Static, source: &Source) -> bool {
        match &self.places[place].contents[0] {
            Contents::Numbers(bytes) => *bytes == numbers(it),
            Contents::Pointers(values) => values.iter().zip(&it.cells).all(|(value, cell)| match (value, cell) {
                (Value::Null, Cell::Null) => true,
                (Value::Function(held), Cell::Function(name)) => held == name,
                (Value::Into { place, offset }, Cell::Into { unit, name, index }) => {
                    let key = (*unit, name.clone());
                    let running = self.generations.last().filter(|last| {
                        // One that changes its size will be another.
                        last.source.keyed(&key).map(Static::size) == source.keyed(&key).map(Static::size)
                    });
                    let target = running.and_then(|last| last.places.get(&key));
                    target == Some(place) && *offset == index * Element::Long.size()
                }
                _ => false,
            }),
        }
    }

    fn initial(&self, generation: usize, key: &Key) -> Contents {
        let Generation { source, places } = &self.generations[generation];
        let it = source.keyed(key).expect("of this generation");
        if it.element.is_number() {
            return Contents::Numbers(numbers(it));
        }
        let value = |cell: &Cell| match cell {
            Cell::Null | Cell::Number(_) => Value::Null,
            Cell::Into { unit, name, index } => {
                Value::Into { place: places[&(*unit, name.clone())], offset: index * Element::Long.size() }
            }
            Cell::Constant { name, index } => Value::Constant { generation, name: name.clone(), index: *index },
            Cell::Function(name) => Value::Function(name.clone()),
            Cell::Text(text) => Value::Text(text.clone()),
        };
        Contents::Pointers(it.cells.iter().map(value).collect())
    }

    /// The newest generation that has the function.
    fn running(&self, name: &str) -> Option<usize> {
        (0..self.generations.len()).rev().find(|index| self.generations[*index].source.function(name).is_some())
    }

    /// Every function that any generation had.
    pub fn functions(&self) -> Vec<&Function> {
        let names = self.generations.iter().flat_map(|generation| &generation.source.functions);
        let mut names: Vec<&str> = names.map(|function| function.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| self.newest(name)).collect()
    }

    pub fn newest(&self, name: &str) -> &Function {
        let generation = self.running(name).expect("some generation has it");
        self.generations[generation].source.function(name).expect("this one")
    }

    /// The static that the running version of a function means by a name.
    pub fn seen_by(&self, function: &Function, name: &str) -> &Static {
        let generation = self.running(&function.name).expect("some generation has it");
        self.generations[generation].source.seen_by(function, name)
    }

    /// The place of a static of the running generation.
    pub fn place_of(&self, it: &Static) -> usize {
        self.generations.last().expect("started").places[&it.key()]
    }

    /// Notes where a place was found to lie; where it was found before, that is what must be found again.
    pub fn lies_at(&mut self, place: usize, address: u64) -> Result<(), u64> {
        match *self.places[place].address.get_or_insert(address) {
            known if known == address => Ok(()),
            known => Err(known),
        }
    }

    /// Whether no two statics share memory.
    pub fn places_apart(&self) -> Result<(), String> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for place in &self.places {
            let size = match &place.initial {
                Contents::Numbers(bytes) => bytes.len(),
                Contents::Pointers(values) => values.len() * 8,
            };
            ranges.extend(place.address.map(|address| (address, address + size as u64)));
        }
        ranges.sort_unstable();
        match ranges.windows(2).find(|pair| pair[0].1 > pair[1].0) {
            Some(pair) => Err(format!("two statics overlap: {pair:#x?}")),
            None => Ok(()),
        }
    }

    /// The places of longs, with their sizes, that a pointer may be set to.
    pub fn targets(&self) -> Vec<(usize, usize)> {
        let generation = self.generations.last().expect("started");
        let longs = generation.source.statics.iter().filter(|it| it.element == Element::Long && it.has_address());
        longs.map(|it| (generation.places[&it.key()], it.size())).collect()
    }

    /// Writes a pointer, as the host does through a poke.
    pub fn aim(&mut self, function: &Function, name: &str, index: usize, value: Value) {
        let generation = self.running(&function.name).expect("it was called");
        let generation = &self.generations[generation];
        let place = generation.places[&generation.source.seen_by(function, name).key()];
        if let Contents::Pointers(values) = &mut self.places[place].contents[0] {
            values[index] = value;
        }
    }

    /// The word that a pointer must be, where that can be told.
    pub fn word(&self, value: &Value) -> Option<u64> {
        match value {
            Value::Null => Some(0),
            Value::Into { place, offset } => Some(self.places[*place].address? + *offset as u64),
            Value::Function(name) => self.entries.get(name).copied(),
            Value::Constant { .. } | Value::Text(_) => None,
        }
    }

    /// What a call answers on a thread; `None` where that depends on an address nobody knows.
    pub fn call(&mut self, name: &str, x: u64, y: u64, thread: usize) -> Option<u64> {
        let generation = self.running(name)?;
        let source = Arc::clone(&self.generations[generation].source);
        let function = source.function(name)?;
        let mut r = u64::from(function.salt);
        for step in &function.steps {
            let it = |name: &String| source.seen_by(function, name);
            let place = |name: &String| self.generations[generation].places[&it(name).key()];
            match step {
                Step::Element(name, index) => r = r.wrapping_add(self.number(place(name), it(name), *index, thread)),
                Step::Walk(name, way) => r = self.walk(r, place(name), it(name), *way, thread),
                Step::Constant(name, index) => {
                    let values = &source.constant(name).values;
                    let index = (y.wrapping_add(*index as u64) % values.len() as u64) as usize;
                    r = r.wrapping_add(values[index] as u64);
                }
                Step::Literal(text) => r = fold_text(r, text),
                Step::Follow(name, index) => match self.pointer(place(name), *index) {
                    Value::Into { place, offset } => r = r.wrapping_add(self.long_at(*place, *offset)?),
                    Value::Constant { generation, name, index } => {
                        let constant = self.generations[*generation].source.constant(name);
                        r = r.wrapping_add(constant.values[*index] as u64);
                    }
                    _ => {}
                },
                Step::CallThrough(name, index) => {
                    if let Value::Function(called) = self.pointer(place(name), *index).clone() {
                        r = r.wrapping_add(self.call(&called, x, y, thread)?);
                    }
                }
                Step::Call(called) => r = r.wrapping_add(self.call(called, x, y, thread)?),
                Step::Read(name, index) => {
                    if let Value::Text(text) = self.pointer(place(name), *index) {
                        r = fold_text(r, text);
                    }
                }
                Step::Peek(name) if it(name).element.is_number() => {
                    r = r.wrapping_add(self.number(place(name), it(name), x as usize, thread));
                }
                Step::Peek(name) if it(name).element == Element::Text => {
                    if let Value::Text(text) = self.pointer(place(name), x as usize) {
                        r = fold_text(r, text);
                    }
                }
                Step::Peek(name) => {
                    let word = self.word(self.pointer(place(name), x as usize))?;
                    r = r.wrapping_add(word);
                }
                Step::Poke(name) => {
                    let (place, element, shared) =
                        (place(name), it(name).element, it(name).storage != Storage::ThreadLocal);
                    self.store(place, element, x as usize, y, if shared { 0 } else { thread });
                }
                Step::Own(name) => {
                    let (place, own) = (place(name), it(name).clone());
                    if (1..=own.cells.len() as u64).contains(&x) {
                        self.store(place, own.element, x as usize - 1, y, 0);
                    }
                    r = self.walk(r, place, &own, Way::Index, thread);
                }
            }
        }
        Some(r)
    }

    fn contents(&self, place: usize, thread: usize) -> &Contents {
        &self.places[place].contents[thread]
    }

    fn number(&self, place: usize, it: &Static, index: usize, thread: usize) -> u64 {
        let thread = if it.storage == Storage::ThreadLocal { thread } else { 0 };
        let Contents::Numbers(bytes) = self.contents(place, thread) else { return 0 };
        let size = it.element.size();
        let bytes = &bytes[index * size..(index + 1) * size];
        let mut word = [if bytes[size - 1] & 0x80 == 0 { 0 } else { 0xff }; 8];
        word[..size].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    }

    fn store(&mut self, place: usize, element: Element, index: usize, value: u64, thread: usize) {
        if let Contents::Numbers(bytes) = &mut self.places[place].contents[thread] {
            let size = element.size();
            bytes[index * size..(index + 1) * size].copy_from_slice(&value.to_le_bytes()[..size]);
        }
    }

    fn long_at(&self, place: usize, offset: usize) -> Option<u64> {
        let Contents::Numbers(bytes) = self.contents(place, 0) else { return None };
        Some(u64::from_le_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?))
    }

    fn pointer(&self, place: usize, index: usize) -> &Value {
        match self.contents(place, 0) {
            Contents::Pointers(values) => &values[index],
            Contents::Numbers(_) => &Value::Null,
        }
    }

    fn walk(&self, r: u64, place: usize, it: &Static, way: Way, thread: usize) -> u64 {
        let fold = |r: u64, index: usize, times: u64| {
            r.wrapping_mul(31).wrapping_add(self.number(place, it, index, thread).wrapping_mul(times))
        };
        let all = 0..it.cells.len();
        match way {
            Way::IndexFromOne | Way::IndexFromAny => all.fold(r, |r, index| fold(r, index, index as u64 + 1)),
            Way::IndexDown | Way::PointerDown => all.rfold(r, |r, index| fold(r, index, 1)),
            Way::Index | Way::PointerToEnd | Way::PointerBelowEnd => all.fold(r, |r, index| fold(r, index, 1)),
        }
    }
}

fn fold_text(r: u64, text: &str) -> u64 {
    text.bytes().fold(r, |r, byte| r.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

fn numbers(it: &Static) -> Vec<u8> {
    let cells = it.cells.iter().map(|cell| if let Cell::Number(value) = cell { *value } else { 0 });
    cells.flat_map(|value| value.to_le_bytes()[..it.element.size()].to_vec()).collect()
}

/// An initialiser by its meaning: a static that is pointed to counts by its name and size, a constant by its value.
fn described(source: &Source, it: &Static) -> Vec<String> {
    if it.element.is_number() {
        return vec![format!("{:?}", numbers(it))];
    }
    let describe = |cell: &Cell| match cell {
        Cell::Into { unit, name, index } => {
            let target = source.keyed(&(*unit, name.clone())).expect("only known statics are pointed to");
            format!("{unit} {name} {index} {}", target.size())
        }
        Cell::Constant { name, index } => format!("{:?} {index}", source.constant(name).values),
        other => format!("{other:?}"),
    };
    it.cells.iter().map(describe).collect()
}
