//! The statics or the thread-locals of a file, and which of them an address may mean.

use crate::{
    image::{Access, CodeReference, Image, Object},
    model::Vaddr,
    plan::homes::{Home, Kind, PlannedHomes, TlsHome, std_backtrace_caches},
};

/// How far before an object an address may lie that counts up to it: an index that begins with 1, or a little higher.
pub const BIAS: u64 = 64;

/// The statics or the thread-locals of a file.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    pub image: &'a Image,
    pub kind: Kind,
}

/// A place in code that names an address, or an offset in the TLS block.
#[derive(Clone, Copy)]
pub struct Reference {
    pub site: Vaddr,
    pub target: Vaddr,
    pub function: Option<u32>,
    /// Memory is accessed right there, so that nothing but what lies there can be meant.
    pub exact: bool,
}

impl Reference {
    /// One that the code makes, unless to a function.
    fn to_object(image: &Image, of: &CodeReference) -> Option<Reference> {
        let CodeReference { site, target, address_taken, .. } = *of;
        let function = of.function();
        image.function_starting_at(target).is_none().then_some(Reference {
            site,
            target,
            function,
            exact: !address_taken,
        })
    }
}

/// How far an object moves from its place in the file: by how many bytes, and into which module's TLS block.
pub type Shift = (u64, u64);

/// One reading of a reference: the object, and how far from its start the address lies.
pub type Reading = (usize, i64);

impl<'a> Table<'a> {
    pub fn objects(&self) -> &'a [Object] {
        self.kind.of(self.image)
    }

    /// Per object; none for markers and constants, which nothing moves. Module 0 is the new generation's own.
    pub fn shifts(&self, homes: &PlannedHomes) -> Vec<Option<Shift>> {
        match self.kind {
            Kind::Objects => {
                let shift = |(object, home): (&Object, &Home)| match home {
                    _ if object.constant || object.size == 0 => None,
                    Home::At(home) => Some((1, home.0.wrapping_sub(object.address.0))),
                    Home::Own => Some((0, 0)),
                };
                let mut shifts: Vec<Option<Shift>> = self.objects().iter().zip(&homes.objects).map(shift).collect();
                // The standard library's own; nothing in it looks beyond its end.
                std_backtrace_caches(self.image).into_iter().for_each(|cache| shifts[cache] = None);
                shifts
            }
            Kind::ThreadLocals => (self.objects().iter().zip(&homes.thread_locals))
                .map(|(object, home)| match home {
                    TlsHome::At { module, offset } => Some((*module, offset.wrapping_sub(object.address.0))),
                    TlsHome::Own => Some((0, 0)),
                })
                .collect(),
        }
    }

    pub fn references(&self) -> Vec<Reference> {
        let image = self.image;
        match self.kind {
            Kind::Objects => {
                let all = image.references.iter().chain(&image.approaches);
                all.filter_map(|it| Reference::to_object(image, it)).collect()
            }
            Kind::ThreadLocals => (image.tls_displacements.iter())
                .map(|it| Reference {
                    site: it.site,
                    target: Vaddr(it.offset),
                    function: Some(it.function),
                    exact: it.exact,
                })
                .collect(),
        }
    }

    /// Those of the functions that may walk to an end outside of all state.
    pub fn of_approaching(&self) -> Vec<Reference> {
        let mut functions: Vec<u32> = match self.kind {
            Kind::Objects => self.image.approaches.iter().filter_map(|it| it.function()).collect(),
            // Outside of the block every offset moves with what lies nearest.
            Kind::ThreadLocals => Vec::new(),
        };
        functions.dedup();
        functions.into_iter().flat_map(|function| self.of_function(function)).collect()
    }

    pub fn of_function(&self, function: u32) -> Vec<Reference> {
        let function = &self.image.functions[function as usize];
        match self.kind {
            Kind::Objects => {
                let here = |all: &'a [CodeReference]| function.those_in(all).iter();
                let all = here(&self.image.references).chain(here(&self.image.approaches));
                all.filter_map(|it| Reference::to_object(self.image, it)).collect()
            }
            Kind::ThreadLocals => {
                let inside = function.address..function.end;
                self.references().into_iter().filter(|other| inside.contains(&other.site)).collect()
            }
        }
    }

    fn object_at(&self, address: Vaddr) -> Option<usize> {
        match self.kind {
            Kind::Objects => self.image.object_at(address),
            Kind::ThreadLocals => self.image.thread_local_at(address.0),
        }
    }

    /// What code uses that names the address, which may be that of a GOT slot.
    pub fn used_at(&self, address: Vaddr) -> Option<usize> {
        match self.kind {
            Kind::Objects => self.image.object_meant(address),
            Kind::ThreadLocals => self.object_at(address),
        }
    }

    /// What lies at the address; in a gap, what lies before it, and before the first object, that.
    pub fn owner(&self, address: Vaddr) -> Option<usize> {
        self.object_at(address).or_else(|| self.neighbour(address))
    }

    fn neighbour(&self, address: Vaddr) -> Option<usize> {
        if self.kind == Kind::ThreadLocals {
            // An offset before the block is a small negative number.
            return if (address.0 as i64) < 0 { self.next(Vaddr(0)) } else { self.before(address) };
        }
        let section =
            self.image.section_at(address).or_else(|| self.image.section_at(Vaddr(address.0.wrapping_sub(1))))?;
        if !section.kind.is_state() {
            return None;
        }
        let in_section = |index: &usize| section.contains(self.image.objects[*index].address);
        self.before(address).filter(in_section).or_else(|| self.next(address).filter(in_section))
    }

    /// The last object that starts before `address`.
    fn before(&self, address: Vaddr) -> Option<usize> {
        let after = self.objects().partition_point(|object| object.address < address);
        (0..after).rev().find(|index| self.is_state(*index))
    }

    /// The first object from `address` on.
    fn next(&self, address: Vaddr) -> Option<usize> {
        let after = self.objects().partition_point(|object| object.address < address);
        (after..self.objects().len()).find(|index| self.is_state(*index))
    }

    /// A byte of gcc's start-up code (`crtstuff.c`), which nothing else refers to and whose address is never taken.
    fn is_start_up(&self, index: usize) -> bool {
        self.image.object_name(&self.objects()[index]) == "completed.0"
    }

    fn is_state(&self, index: usize) -> bool {
        !self.objects()[index].constant && self.objects()[index].size > 0
    }

    /// How far below an object a walk through it may end, and its end; the first may lie before the file begins.
    pub fn reach(&self, object: usize) -> (i64, i64) {
        let object = &self.objects()[object];
        let (start, end) = (object.address.0 as i64, object.end().0 as i64);
        (start.saturating_sub_unsigned(object.size.max(BIAS)), end)
    }

    /// Every object that a reference may mean, the one that lies there first.
    pub fn readings(&self, reference: &Reference) -> Vec<Reading> {
        let address = reference.target;
        let Some(mut owner) = self.owner(address) else { return Vec::new() };
        if !reference.exact && self.is_start_up(owner) {
            owner = self.before(address).unwrap_or(owner);
        }
        let mut objects = vec![owner];
        if !reference.exact {
            // An offset before the block wraps around; there is nothing in front of it then.
            let first = Vaddr(if (address.0 as i64) < 0 { 0 } else { address.0 });
            let ends_here = |index: &usize| self.objects()[*index].end() == address;
            objects.extend(self.before(address).filter(ends_here));
            let behind = self.objects().partition_point(|object| object.address.0 <= first.0);
            let near = |index: &usize| self.objects()[*index].address.0.wrapping_sub(address.0) <= BIAS;
            objects.extend((behind..self.objects().len()).take_while(near).filter(|index| self.is_state(*index)));
            objects.dedup();
            objects.retain(|index| *index == owner || !self.is_start_up(*index));
        }
        let reading = |object: usize| (object, address.0.wrapping_sub(self.objects()[object].address.0) as i64);
        objects.into_iter().map(reading).collect()
    }

    /// The object where this access reads or writes.
    pub fn accessed(&self, reference: &Reference, access: Access, readings: &[Reading]) -> Option<usize> {
        let object = |index: usize| &self.objects()[index];
        let mut objects = readings.iter().map(|(object, _)| *object);
        let from = |offset: i64| Vaddr(reference.target.0.wrapping_add_signed(offset));
        match access {
            Access::At(offset) => objects.find(|it| object(*it).contains(from(offset))),
            Access::Indexed(offset) => {
                let begins = |at: Vaddr| objects.clone().find(|it| object(*it).address == at);
                // An array may begin where the address is, and have an index that begins higher.
                begins(from(offset)).filter(|found| begins(reference.target).is_none_or(|here| here == *found))
            }
            Access::Compared | Access::Unknown => None,
        }
    }
}
