//! All generations of one module, placed in one process: which function of which generation is which, which of them runs,
//! and where each static lives.
//!
//! Rebuilt by replay from the ledger's generations: the same files in the same order always give the same answers.

use std::{io, ops::Range, sync::Arc};

use foldhash::{HashMap, HashMapExt as _};
use reload_protocol::Segment;

use super::{
    Plan,
    by_family::ByFamily,
    families::Families,
    homes::{Homes, storage},
    hooks::Hooks,
    start_up::Known,
};
use crate::{
    error::{Error, Result},
    image::{Content, Entry, Form, Function, Identity, Image, NEAR, NameKey, are_same_symbols},
    model::{Addr, Generation, LoadBias, Place, Vaddr},
};

/// A function of a placed generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance {
    /// Index into the lineage.
    pub generation: usize,
    /// Index into its image's functions.
    pub function: u32,
}

/// A generation that has been loaded into the target.
#[derive(Debug)]
pub struct Placed {
    pub number: Generation,
    /// Index of the generation it was planned against; its own for generation 0.
    pub parent: usize,
    pub image: Arc<Image>,
    pub bias: LoadBias,
    pub tls_module: u64,
    /// Parallel to the image's functions.
    pub families: Vec<u32>,
    by_family: ByFamily,
    /// Parallel to the image's functions: the generation where those in a row begin that are interchangeable up to this one.
    runs: Vec<u32>,
    /// The families that begin with this generation.
    pub own_families: Range<u32>,
    /// The families that this generation implements anew.
    pub implements: Vec<(u32, u32)>,
    pub hooks: Hooks,
    pub homes: Homes,
    /// Parallel to the image's functions: which storage they use, as a hash ([`super::homes::storage`]).
    pub storage: Vec<u64>,
    /// By site: the objects or thread-locals that an ambiguous reference was decided to mean.
    pub meant: HashMap<Vaddr, Vec<usize>>,
    /// Where binding changed the first bytes of functions, ascending: what stands there when nothing is redirected.
    pub rebound_entries: Vec<(Vaddr, [u8; 4])>,
}

/// By family: who runs it, where a generation implemented it anew.
#[derive(Clone, Debug, Default)]
pub struct Implementers(Arc<Vec<Option<Instance>>>);

impl Implementers {
    pub fn get(&self, family: u32) -> Option<Instance> {
        self.0.get(family as usize).copied().flatten()
    }

    /// In the order of the families, which is about that of their addresses.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Instance)> {
        (0..).zip(&*self.0).filter_map(|(family, implementer)| Some((family, (*implementer)?)))
    }

    /// Once a generation implements these families, by index of its functions, anew.
    fn after(mut self, generation: usize, implements: &[(u32, u32)]) -> Implementers {
        let known = Arc::make_mut(&mut self.0);
        for (family, function) in implements {
            let family = *family as usize;
            if known.len() <= family {
                known.resize(family + 1, None);
            }
            known[family] = Some(Instance { generation, function: *function });
        }
        self
    }
}

/// Generations of one module.
///
/// There may be a thousand of them, and they are far apart in memory. So what a reload asks of all of them stands together.
#[derive(Debug)]
pub struct Lineage {
    placed: Vec<Placed>,
    families: Families,
    /// Parallel to `placed`.
    parents: Vec<usize>,
    /// The executable segments of all generations, of whole pages.
    text: Vec<Segment>,
    start_up: Known,
    /// As [`Lineage::implementers`] says, of the last generation and the one it was planned against.
    implementers: Vec<(usize, Implementers)>,
}

impl Lineage {
    /// Generation 0: what the program loaded.
    pub fn new(image: Arc<Image>, bias: LoadBias, tls_module: u64, homes: Homes) -> Self {
        let count = image.functions.len();
        let mut lineage = Lineage {
            placed: Vec::new(),
            families: Families::with_capacity(count),
            parents: Vec::new(),
            text: Vec::new(),
            start_up: Known::default(),
            implementers: Vec::new(),
        };
        for (function, of) in (0..).zip(image.identities()) {
            lineage.families.found(of.key, Instance { generation: 0, function });
        }
        let (storage, hooks) = (storage(&image, &homes), Hooks::of(&image));
        let all = (0..image.functions.len() as u32).collect();
        let first = Placed {
            number: Generation(0),
            parent: 0,
            image,
            bias,
            tls_module,
            families: all,
            by_family: ByFamily::default(),
            runs: Vec::new(),
            own_families: 0..count as u32,
            implements: Vec::new(),
            hooks,
            homes,
            storage,
            meant: HashMap::new(),
            rebound_entries: Vec::new(),
        };
        lineage.add(first);
        lineage
    }

    /// The next generation, whose families have been found.
    fn add(&mut self, mut placed: Placed) {
        self.complete_families(&mut placed);
        self.parents.push(placed.parent);
        self.text.extend(text(&placed.image, placed.bias));
        self.start_up.learn(&placed.image);
        self.placed.push(placed);
    }

    /// Adds the next generation's functions to their families.
    fn complete_families(&mut self, next: &mut Placed) {
        let generation = self.placed.len();
        next.by_family = ByFamily::new(&next.families);
        next.runs = vec![generation as u32; next.families.len()];
        let parent = self.placed.get(next.parent).filter(|parent| are_same_symbols(&parent.image, &next.image));
        // Parallel to the functions too: what continues one of these is called as that one.
        let known = parent.map_or(&[][..], |parent| &parent.families);
        for (function, family) in (0..).zip(next.families.iter().copied()) {
            let before = self.newest(family);
            if before.generation != generation && alike(self.behaviour(before), behaviour(next, function)) {
                next.runs[function as usize] = self.run_of(before);
            }
            self.families.continued(family, Instance { generation, function });
            if known.get(function as usize) != Some(&family) {
                self.families.called(family, next.image.identities()[function as usize].key);
            }
        }
        for function in next.image.entangled() {
            self.families.entangle(next.families[function as usize]);
        }
    }

    /// In which generation those in a row begin that are interchangeable up to this instance.
    fn run_of(&self, instance: Instance) -> u32 {
        self.placed[instance.generation].runs[instance.function as usize]
    }

    /// The instances in a row that are interchangeable with this one of the family, itself included, oldest first.
    pub fn run(&self, family: u32, of: Instance) -> impl Iterator<Item = Instance> {
        let run = self.run_of(of);
        let from_first =
            (run as usize..=self.newest(family).generation).filter_map(move |on| self.instance(family, on));
        from_first.take_while(move |instance| self.run_of(*instance) == run)
    }

    /// Whether two instances of one family are interchangeable, and all in between.
    pub fn are_in_one_run(&self, one: Instance, other: Instance) -> bool {
        self.run_of(one) == self.run_of(other)
    }

    /// Whether what becomes of an entry of the family depends on other families too.
    pub fn is_entangled(&self, family: u32) -> bool {
        self.families.is_entangled(family)
    }

    /// Whether it is interchangeable with the one of the first generation, and with all in between.
    pub fn is_as_in_the_first(&self, instance: Instance) -> bool {
        self.run_of(instance) == 0
    }

    /// Whether no other function begins where this one does.
    pub fn is_alone(&self, instance: Instance) -> bool {
        is_alone(&self.placed[instance.generation].image, instance.function as usize)
    }

    /// Whether a generation has a function that began with this name.
    pub fn has(&self, generation: usize, key: NameKey) -> bool {
        self.families.called_at_first(key).any(|family| self.instance(family, generation).is_some())
    }

    /// Adds the planned generation where the loader put it, `code` being what [`super::bind::code`] found; returns its index.
    pub fn place(&mut self, plan: &Plan, number: Generation, place: Place, code: &[(Vaddr, [u8; 4])]) -> usize {
        let generation = self.placed.len();
        let first_own = self.families.count() as u32;
        let mut families = Vec::with_capacity(plan.partners.len());
        for (function, partner) in plan.partners.iter().enumerate() {
            let instance = Instance { generation, function: function as u32 };
            let begun = || self.families.found(plan.image.identities()[function].key, instance);
            families.push(partner.unwrap_or_else(begun));
        }
        let homes = plan.homes.placed(place, &plan.image);
        let Place { bias, tls_module, .. } = place;
        let as_planned = plan.homes.keeps_all_state(&plan.image);
        let mut storage = if as_planned { plan.storage.clone() } else { storage(&plan.image, &homes) };
        for function in &plan.distinct {
            storage[*function as usize] = bias.0;
        }
        let implements: Vec<(u32, u32)> =
            plan.implements.iter().map(|function| (families[*function as usize], *function)).collect();
        let before = self.implementers(plan.parent);
        let after = before.clone().after(generation, &implements);
        self.implementers = vec![(plan.parent, before), (generation, after)];
        self.add(Placed {
            number,
            parent: plan.parent,
            image: Arc::clone(&plan.image),
            bias,
            tls_module,
            families,
            by_family: ByFamily::default(),
            runs: Vec::new(),
            own_families: first_own..self.families.count() as u32,
            implements,
            hooks: plan.hooks,
            storage,
            meant: plan.decisions.clone().into_meant(),
            rebound_entries: at_entries(&plan.image, code),
            homes,
        });
        generation
    }

    /// Notes what `code` has changed since the generation was placed.
    pub fn rebind(&mut self, generation: usize, code: &[(Vaddr, [u8; 4])]) {
        let placed = &mut self.placed[generation];
        placed.rebound_entries = at_entries(&placed.image, code);
    }

    /// Frees what of the generations, but the first and these, only a comparison with the next file needs. Returned is memory
    /// that took the bytes of one, if there was such.
    pub fn retire_all_but(&mut self, kept: [usize; 2]) -> Option<Vec<u8>> {
        let others = self.placed.iter_mut().enumerate().skip(1).filter(|(index, _)| !kept.contains(index));
        others.filter_map(|(_, placed)| Arc::get_mut(&mut placed.image)?.retire()).last()
    }

    /// Has a generation ready to be compared with the next file.
    ///
    /// # Errors
    /// What was freed cannot be read again from the kept file.
    pub fn revive(&mut self, generation: usize) -> Result<()> {
        let image = &mut self.placed[generation].image;
        if !image.is_retired() {
            return Ok(());
        }
        let path = image.path.clone();
        let revived = Arc::get_mut(image).map_or_else(|| Err(io::ErrorKind::ResourceBusy.into()), Image::revive);
        revived.map_err(|source| Error::File { path, doing: "reading the kept copy of a generation", source })
    }

    pub fn placed(&self, generation: usize) -> &Placed {
        &self.placed[generation]
    }

    pub fn all(&self) -> &[Placed] {
        &self.placed
    }

    /// The executable segments of all generations where they are mapped.
    pub fn text(&self) -> &[Segment] {
        &self.text
    }

    /// What the generations so far would have had the loader run.
    pub fn start_up(&self) -> &Known {
        &self.start_up
    }

    pub fn index_of(&self, number: Generation) -> Option<usize> {
        // They come in the order of their numbers.
        self.placed.binary_search_by_key(&number, |placed| placed.number).ok()
    }

    pub fn families(&self) -> &Families {
        &self.families
    }

    /// Oldest first.
    pub fn instances(&self, family: u32) -> impl Iterator<Item = Instance> {
        let (oldest, newest) = (self.oldest(family), self.newest(family));
        (oldest.generation..=newest.generation).filter_map(move |generation| self.instance(family, generation))
    }

    /// The one that a generation has, if it has one.
    pub fn instance(&self, family: u32, generation: usize) -> Option<Instance> {
        self.placed[generation].by_family.function(family).map(|function| Instance { generation, function })
    }

    pub fn oldest(&self, family: u32) -> Instance {
        self.families.oldest(family)
    }

    pub fn newest(&self, family: u32) -> Instance {
        self.families.newest(family)
    }

    pub fn function(&self, instance: Instance) -> &Function {
        &self.placed[instance.generation].image.functions[instance.function as usize]
    }

    pub fn identity(&self, instance: Instance) -> &Identity {
        &self.placed[instance.generation].image.identities()[instance.function as usize]
    }

    /// Of its code, as [`Analysis::contents`](crate::image::Analysis::contents) says.
    pub fn content(&self, instance: Instance) -> Option<Content> {
        self.placed[instance.generation].image.contents[instance.function as usize]
    }

    pub fn skeleton(&self, instance: Instance) -> u128 {
        self.placed[instance.generation].image.skeletons[instance.function as usize]
    }

    pub fn entry(&self, instance: Instance) -> Entry {
        self.placed[instance.generation].image.entry(instance.function as usize)
    }

    /// Where the function begins in the process.
    pub fn address(&self, instance: Instance) -> Addr {
        self.placed[instance.generation].bias.addr(self.function(instance).address)
    }

    /// The functions that share this one's address, itself included, and their families.
    pub fn sharers(&self, instance: Instance) -> impl Iterator<Item = (Instance, u32)> {
        let placed = &self.placed[instance.generation];
        let address = self.function(instance).address;
        let first = placed.image.function_starting_at(address).unwrap_or(instance.function as usize);
        let sharing = placed.image.functions[first..].iter().take_while(move |other| other.address == address);
        sharing
            .zip(first..)
            .filter(|(other, _)| !other.auxiliary && !other.indirect)
            .map(move |(_, function)| (Instance { function: function as u32, ..instance }, placed.families[function]))
    }

    /// The function that lends this one room for its jump.
    pub fn lender(&self, instance: Instance) -> Option<Instance> {
        match self.entry(instance).form {
            Form::Borrowed { from, .. } => Some(Instance { function: from, ..instance }),
            _ => None,
        }
    }

    /// Every function of every generation that has to borrow room, with its family.
    pub fn borrowers(&self) -> impl Iterator<Item = (Instance, u32)> {
        self.placed.iter().enumerate().flat_map(|(generation, placed)| {
            let borrowers = placed.image.borrowers.iter();
            borrowers.map(move |function| {
                (Instance { generation, function: *function }, placed.families[*function as usize])
            })
        })
    }

    /// Whether it makes no difference which of the two runs: the same code on the same storage.
    pub fn interchangeable(&self, one: Instance, other: Instance) -> bool {
        alike(self.behaviour(one), self.behaviour(other))
    }

    fn behaviour(&self, instance: Instance) -> Option<(Content, u64)> {
        behaviour(&self.placed[instance.generation], instance.function)
    }

    pub fn name(&self, instance: Instance) -> &str {
        self.placed[instance.generation].image.function_name(self.function(instance))
    }

    /// Generations from the first to `generation`, each planned against the one before.
    pub fn path(&self, generation: usize) -> Vec<usize> {
        let mut path = vec![generation];
        let mut at = generation;
        while at != 0 {
            at = self.parents[at];
            path.push(at);
        }
        path.reverse();
        path
    }

    /// Who runs each family that a generation on the way to `generation` implemented anew.
    pub fn implementers(&self, generation: usize) -> Implementers {
        if let Some((_, known)) = self.implementers.iter().find(|(of, _)| *of == generation) {
            return known.clone();
        }
        let path = self.path(generation).into_iter();
        path.fold(Implementers::default(), |known, on| known.after(on, &self.placed[on].implements))
    }

    /// The instance that runs a family, given [`Lineage::implementers`] and [`Lineage::path`] of the active generation;
    /// `None` where the family does not exist on that path.
    pub fn implementer(&self, implementers: &Implementers, path: &[usize], family: u32) -> Option<Instance> {
        let on_path = |instance: &Instance| path.binary_search(&instance.generation).is_ok();
        let first = || {
            let oldest = Some(self.oldest(family)).filter(on_path);
            oldest.or_else(|| self.instances(family).find(on_path))
        };
        implementers.get(family).or_else(first)
    }
}

/// What a function does: its code, and the storage that it uses. `None`: that cannot be compared.
fn behaviour(placed: &Placed, function: u32) -> Option<(Content, u64)> {
    let function = function as usize;
    Some((placed.image.contents[function]?, placed.storage[function]))
}

fn alike(one: Option<(Content, u64)>, other: Option<(Content, u64)>) -> bool {
    one.is_some() && one == other
}

/// The executable segments of one generation.
fn text(image: &Image, bias: LoadBias) -> impl Iterator<Item = Segment> {
    const WRITE: u32 = 2;
    const READ_EXECUTE: u32 = 5;
    image.tables.segments.iter().filter(|segment| segment.executable).map(move |segment| {
        let protection = READ_EXECUTE | if segment.writable { WRITE } else { 0 };
        let start = bias.0.wrapping_add(segment.address & !0xfff);
        let len = ((segment.address & 0xfff) + segment.memory_size).next_multiple_of(0x1000);
        Segment { range: reload_protocol::Range { start, len }, protection }
    })
}

/// Whether no other function of the file begins where the one of this index does.
pub fn is_alone(image: &Image, function: usize) -> bool {
    let functions = &image.functions;
    let here = |index: Option<usize>| index.and_then(|index| functions.get(index)).map(|other| other.address);
    let address = functions[function].address;
    here(function.checked_sub(1)) != Some(address) && here(Some(function + 1)) != Some(address)
}

/// Those of the 32-bit fields that overlap bytes an entry's jump would replace, or one that borrows room behind it.
fn at_entries(image: &Image, code: &[(Vaddr, [u8; 4])]) -> Vec<(Vaddr, [u8; 4])> {
    let touches = |site: Vaddr| {
        image.function_covering(site).is_some_and(|function| site.0 < image.entry(function).at.0 + 2 * NEAR)
    };
    code.iter().copied().filter(|(site, _)| touches(*site)).collect()
}
