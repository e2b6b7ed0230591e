//! Writes a first version of a library and edits it as programmers do, at random: the same seed always gives the same.
//!
//! Every version is valid C, and every static can be read and written from outside through functions of its own.

use fastrand::Rng;

use super::source::{Cell, Constant, Element, Function, Source, Static, Step, Storage, Way};

/// A library in the making.
pub struct Author {
    rng: Rng,
    pub source: Source,
    units: u8,
    next_id: u32,
    /// Statics that were removed and may come back, with the functions that came with them.
    buried: Vec<(Static, Vec<Function>)>,
}

const NUMBERS: [Element; 4] = [Element::Char, Element::Short, Element::Int, Element::Long];
const WAYS: [Way; 7] = [
    Way::Index,
    Way::IndexFromOne,
    Way::IndexFromAny,
    Way::PointerToEnd,
    Way::PointerBelowEnd,
    Way::IndexDown,
    Way::PointerDown,
];
const WORDS: [&str; 8] = ["alpha", "beta", "gamma", "delta", "ta", "a longer text with a tail: beta", "", "x"];

impl Author {
    /// The first version.
    pub fn new(seed: u64) -> Author {
        let mut rng = Rng::with_seed(seed);
        let units = if rng.u8(..6) == 0 { 2 } else { 1 };
        let mut author = Author { source: Source::default(), units, next_id: 1, buried: Vec::new(), rng };
        author.source.inlining = author.rng.u8(..3) == 0;
        for _ in 0..author.rng.usize(0..3) {
            author.add_constant();
        }
        // Plain ones first: others may point to them.
        for unit in 0..units {
            author.add_function(unit, true);
            for _ in 0..author.rng.usize(2..6) {
                author.add_static(unit);
            }
        }
        for _ in 0..author.rng.usize(2..7) {
            let (unit, leaf) = (author.unit(), author.chance(3));
            author.add_function(unit, leaf);
        }
        author
    }

    /// Edits the source into its next version.
    pub fn edit(&mut self) {
        for _ in 0..self.rng.usize(1..=4) {
            self.edit_once();
        }
        self.make_valid();
    }

    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.u32(..one_in) == 0
    }

    fn unit(&mut self) -> u8 {
        self.rng.u8(..self.units)
    }

    fn edit_once(&mut self) {
        match self.rng.u32(..23) {
            0..=3 => {
                let unit = self.unit();
                self.add_static(unit);
            }
            4..=5 => self.remove_static(),
            6 => self.bring_back(),
            7..=8 => self.rng.shuffle(&mut self.source.statics),
            9 => self.resize(),
            10 => self.retype(),
            11..=13 => self.reinitialise(),
            14 => self.store_otherwise(),
            15..=16 => {
                let (unit, leaf) = (self.unit(), self.chance(3));
                self.add_function(unit, leaf);
            }
            17 => self.remove_function(),
            18..=20 => self.edit_function(),
            21 => self.rng.shuffle(&mut self.source.functions),
            _ => match self.source.constants.len() {
                0 => self.add_constant(),
                len => {
                    let constant = self.rng.usize(..len);
                    let values = &mut self.source.constants[constant].values;
                    let index = self.rng.usize(..values.len());
                    values[index] += 1;
                    if self.rng.bool() {
                        values.push(77);
                    }
                }
            },
        }
        self.make_valid();
    }

    fn add_constant(&mut self) {
        let name = format!("c{}", self.fresh_id());
        let values = (0..self.rng.usize(1..6)).map(|_| self.rng.i64(-99..99)).collect();
        self.source.constants.push(Constant { name, values });
    }

    fn fresh_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    fn add_static(&mut self, unit: u8) {
        let taken = |name: &str| {
            let buried = self.buried.iter().any(|(it, _)| it.unit == unit && it.name == name);
            buried || self.source.statics.iter().any(|it| it.unit == unit && it.name == name)
        };
        let Some(name) = (0..).map(|number| format!("s{number}")).find(|name| !taken(name)) else { return };
        let element = match self.rng.u32(..14) {
            0..=1 => Element::Char,
            2 => Element::Short,
            3..=4 => Element::Int,
            5..=9 => Element::Long,
            10..=11 => Element::Pointer,
            12 => Element::Code,
            _ => Element::Text,
        };
        let storage = match self.rng.u32(..16) {
            0 if unit == 0 => Storage::Hidden,
            1..=2 if unit == 0 => Storage::Exported,
            3 if unit == 0 => Storage::Weak,
            4..=5 if element.is_number() => Storage::ThreadLocal,
            _ => Storage::Internal,
        };
        let mut it = Static { name, unit, storage, element, cells: Vec::new() };
        it.cells = self.cells(&it, None);
        let place = self.rng.usize(..=self.source.statics.len());
        for (kind, step) in [("peek", Step::Peek(it.name.clone())), ("poke", Step::Poke(it.name.clone()))] {
            let name = format!("{kind}_{unit}_{}", it.name);
            let function = self.function(name, unit, false, vec![step]);
            let place = self.rng.usize(..=self.source.functions.len());
            self.source.functions.insert(place, function);
        }
        self.source.statics.insert(place, it);
    }

    fn function(&mut self, name: String, unit: u8, leaf: bool, steps: Vec<Step>) -> Function {
        Function { name, unit, id: self.fresh_id(), exported: self.rng.bool(), leaf, salt: self.rng.u32(1000..), steps }
    }

    /// An initialiser of `len` elements, or of as many as it likes.
    fn cells(&mut self, it: &Static, len: Option<usize>) -> Vec<Cell> {
        let len = len.unwrap_or_else(|| match self.rng.u32(..5) {
            0..=1 => 1,
            2..=3 => self.rng.usize(1..9),
            _ => self.rng.usize(9..40),
        });
        let zero = self.chance(3);
        (0..len).map(|_| if zero { self.zero(it.element) } else { self.cell(it) }).collect()
    }

    fn zero(&self, element: Element) -> Cell {
        if element.is_number() { Cell::Number(0) } else { Cell::Null }
    }

    fn cell(&mut self, it: &Static) -> Cell {
        match it.element {
            Element::Char => Cell::Number(self.rng.i64(-128..128)),
            Element::Short => Cell::Number(self.rng.i64(-999..999)),
            Element::Int | Element::Long => Cell::Number(self.rng.i64(-99_999..99_999)),
            Element::Pointer => {
                let longs =
                    |other: &&Static| other.unit == it.unit && other.element == Element::Long && other.has_address();
                let targets: Vec<&Static> = self.source.statics.iter().filter(longs).collect();
                let constants = &self.source.constants;
                let choice = self.rng.usize(..targets.len() + constants.len() + 1);
                if let Some(target) = targets.get(choice) {
                    let index = self.rng.usize(..target.cells.len());
                    Cell::Into { unit: it.unit, name: target.name.clone(), index }
                } else if let Some(constant) = constants.get(choice - targets.len()) {
                    let index = self.rng.usize(..constant.values.len());
                    Cell::Constant { name: constant.name.clone(), index }
                } else {
                    Cell::Null
                }
            }
            Element::Code => {
                let leafs: Vec<String> = self.leafs();
                self.rng.choice(leafs).map_or(Cell::Null, Cell::Function)
            }
            Element::Text => Cell::Text(self.rng.choice(WORDS).unwrap_or_default().to_owned()),
        }
    }

    fn leafs(&self) -> Vec<String> {
        self.source.functions.iter().filter(|function| function.leaf).map(|function| function.name.clone()).collect()
    }

    fn add_function(&mut self, unit: u8, leaf: bool) {
        let name = format!("f{}", self.fresh_id());
        if self.chance(3) {
            let mut own = Static {
                name: format!("n{}", self.rng.u32(..2)),
                unit,
                storage: Storage::Local(name.clone()),
                element: self.rng.choice(NUMBERS).unwrap_or(Element::Long),
                cells: Vec::new(),
            };
            own.cells = self.cells(&own, None);
            let place = self.rng.usize(..=self.source.statics.len());
            self.source.statics.insert(place, own);
        }
        let function = self.function(name, unit, leaf, Vec::new());
        let place = self.rng.usize(..=self.source.functions.len());
        self.source.functions.insert(place, function);
        for _ in 0..self.rng.usize(1..5) {
            self.add_step(place);
        }
        let function = &self.source.functions[place];
        let own = Storage::Local(function.name.clone());
        if let Some(own) = self.source.statics.iter().find(|it| it.storage == own) {
            let step = Step::Own(own.name.clone());
            self.source.functions[place].steps.push(step);
        }
    }

    fn add_step(&mut self, function: usize) {
        let Function { unit, leaf, steps, .. } = self.source.functions[function].clone();
        let names_thread_local = steps.iter().any(|step| {
            let names = |it: &&Static| it.storage == Storage::ThreadLocal && step.names(&it.name);
            self.source.statics.iter().filter(|it| it.unit == unit).any(|it| names(&it))
        });
        let visible = |it: &&Static| {
            it.unit == unit
                && !matches!(it.storage, Storage::Local(_))
                && !(names_thread_local && it.storage == Storage::ThreadLocal)
        };
        let statics: Vec<Static> = self.source.statics.iter().filter(visible).cloned().collect();
        let leafs = self.leafs();
        let step = match self.rng.u32(..10) {
            0 if !leaf && !leafs.is_empty() => Step::Call(leafs[self.rng.usize(..leafs.len())].clone()),
            1 if !self.source.constants.is_empty() => {
                let constant = self.rng.usize(..self.source.constants.len());
                Step::Constant(self.source.constants[constant].name.clone(), self.rng.usize(..6))
            }
            2 => Step::Literal(self.rng.choice(WORDS).unwrap_or_default().to_owned()),
            _ if statics.is_empty() => return,
            _ => {
                let it = &statics[self.rng.usize(..statics.len())];
                let (name, index) = (it.name.clone(), self.rng.usize(..it.cells.len()));
                match it.element {
                    Element::Pointer => Step::Follow(name, index),
                    Element::Code if leaf => return,
                    Element::Code => Step::CallThrough(name, index),
                    Element::Text => Step::Read(name, index),
                    _ if self.chance(3) => Step::Element(name, index),
                    _ => Step::Walk(name, WAYS[self.rng.usize(..WAYS.len())]),
                }
            }
        };
        let place = self.rng.usize(..=steps.len());
        self.source.functions[function].steps.insert(place, step);
    }

    /// Any static of which `wanted` holds.
    fn some_static(&mut self, wanted: impl Fn(&Static) -> bool) -> Option<usize> {
        let fitting = (0..self.source.statics.len()).filter(|index| wanted(&self.source.statics[*index]));
        self.rng.choice(fitting.collect::<Vec<_>>())
    }

    fn remove_static(&mut self) {
        let Some(index) = self.some_static(|it| !matches!(it.storage, Storage::Local(_))) else { return };
        let it = self.source.statics.remove(index);
        let own = [format!("peek_{}_{}", it.unit, it.name), format!("poke_{}_{}", it.unit, it.name)];
        let (gone, stay) = self.source.functions.drain(..).partition(|function| own.contains(&function.name));
        self.source.functions = stay;
        self.buried.push((it, gone));
    }

    fn bring_back(&mut self) {
        // A namesake in the other file would be taken for it: it was there more lately.
        let namesake = |it: &Static| self.source.statics.iter().any(|other| other.name == it.name);
        if let Some((it, functions)) = self.buried.pop_if(|(it, _)| !namesake(it)) {
            self.source.statics.push(it);
            self.source.functions.extend(functions);
        }
    }

    fn resize(&mut self) {
        let Some(index) = self.some_static(|_| true) else { return };
        let mut it = self.source.statics[index].clone();
        if self.rng.bool() {
            it.cells.pop();
        }
        for _ in 0..self.rng.usize(1..4) {
            let cell = if self.rng.bool() { self.cell(&it) } else { self.zero(it.element) };
            it.cells.push(cell);
        }
        self.source.statics[index] = it;
    }

    /// Another type of elements, most often so that the size stays.
    fn retype(&mut self) {
        let pointed: Vec<String> = (self.source.statics.iter().flat_map(|it| &it.cells))
            .filter_map(|cell| if let Cell::Into { name, .. } = cell { Some(name.clone()) } else { None })
            .collect();
        let plain = |it: &Static| it.element.is_number() && !pointed.contains(&it.name);
        let Some(index) = self.some_static(plain) else { return };
        let it = &self.source.statics[index];
        let size = it.size();
        let fits = NUMBERS.into_iter().filter(|element| *element != it.element && size.is_multiple_of(element.size()));
        let Some(element) = self.rng.choice(fits.collect::<Vec<_>>()) else { return };
        let mut it = Static { element, ..self.source.statics[index].clone() };
        it.cells = self.cells(&it, Some(size / element.size()));
        self.source.statics[index] = it;
    }

    fn reinitialise(&mut self) {
        let Some(index) = self.some_static(|_| true) else { return };
        let it = self.source.statics[index].clone();
        let len = it.cells.len();
        if self.rng.bool() {
            self.source.statics[index].cells = self.cells(&it, Some(len));
        } else {
            let cell = self.cell(&it);
            self.source.statics[index].cells[self.rng.usize(..len)] = cell;
        }
    }

    fn store_otherwise(&mut self) {
        let movable = |it: &Static| it.unit == 0 && it.has_address();
        let Some(index) = self.some_static(movable) else { return };
        let ways = [Storage::Internal, Storage::Hidden, Storage::Exported, Storage::Weak];
        self.source.statics[index].storage = self.rng.choice(ways).unwrap_or(Storage::Internal);
    }

    fn some_function(&mut self) -> Option<usize> {
        let plain = |function: &Function| function.name.starts_with('f');
        let functions = &self.source.functions;
        let fitting: Vec<usize> = (0..functions.len()).filter(|index| plain(&functions[*index])).collect();
        self.rng.choice(fitting)
    }

    fn remove_function(&mut self) {
        let Some(index) = self.some_function() else { return };
        let gone = self.source.functions.remove(index);
        let own = Storage::Local(gone.name);
        self.source.statics.retain(|it| it.storage != own);
    }

    fn edit_function(&mut self) {
        let Some(index) = self.some_function() else { return };
        self.source.functions[index].salt ^= self.rng.u32(1..);
        match self.rng.u32(..3) {
            0 => self.add_step(index),
            1 => {
                let removable = |step: &Step| !matches!(step, Step::Own(_));
                let steps = &mut self.source.functions[index].steps;
                let fitting: Vec<usize> = (0..steps.len()).filter(|step| removable(&steps[*step])).collect();
                if let Some(step) = self.rng.choice(fitting) {
                    steps.remove(step);
                }
            }
            _ => {}
        }
    }

    /// Takes out what names things that are gone, and brings indices back into range.
    fn make_valid(&mut self) {
        let before = self.source.clone();
        let leafs = self.leafs();
        let known = |unit: u8, name: &str, own: &str| {
            before.statics.iter().find(|it| match &it.storage {
                Storage::Local(function) => function == own && it.name == name,
                _ => it.unit == unit && it.name == name,
            })
        };
        for it in &mut self.source.statics {
            for cell in &mut it.cells {
                let valid = match cell {
                    Cell::Into { unit, name, index } => known(*unit, name, "").is_some_and(|target| {
                        *index %= target.cells.len();
                        target.element == Element::Long
                    }),
                    Cell::Constant { name, index } => {
                        *index %= before.constant(name).values.len();
                        true
                    }
                    Cell::Function(name) => leafs.contains(name),
                    Cell::Number(_) | Cell::Null | Cell::Text(_) => true,
                };
                if !valid {
                    *cell = Cell::Null;
                }
            }
        }
        for function in &mut self.source.functions {
            let (unit, own, count) = (function.unit, function.name.clone(), function.steps.len());
            function.steps.retain_mut(|step| match step {
                Step::Element(name, index)
                | Step::Follow(name, index)
                | Step::CallThrough(name, index)
                | Step::Read(name, index) => known(unit, name, &own).is_some_and(|it| {
                    *index %= it.cells.len();
                    true
                }),
                Step::Walk(name, _) | Step::Peek(name) | Step::Poke(name) | Step::Own(name) => {
                    known(unit, name, &own).is_some()
                }
                Step::Call(name) => leafs.contains(name),
                Step::Constant(..) | Step::Literal(_) => true,
            });
            if function.steps.len() != count {
                function.salt ^= self.rng.u32(1..);
            }
        }
    }
}

impl Step {
    fn names(&self, wanted: &str) -> bool {
        match self {
            Step::Element(name, _)
            | Step::Walk(name, _)
            | Step::Follow(name, _)
            | Step::CallThrough(name, _)
            | Step::Read(name, _)
            | Step::Peek(name)
            | Step::Poke(name)
            | Step::Own(name) => name == wanted,
            Step::Constant(..) | Step::Literal(_) | Step::Call(_) => false,
        }
    }
}
