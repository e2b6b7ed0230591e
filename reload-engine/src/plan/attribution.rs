//! Which object an address in the new file means, and so by how much a reference to it must move.
//!
//! Compilers form addresses one past the end of an object, point into the gap behind it, and start below an array whose
//! index begins higher. While neighbours move by the same distance that does not matter. Where they part ways, what the same
//! place of the same function meant in the running generation decides: its counterpart where the instructions are the same,
//! else whatever of the old function only one of the readings explains. What stays open is named, to be refused.

use std::cell::OnceCell;

use foldhash::HashMap;
use tracing::debug;

use super::{
    homes::{Home, Kind, PlannedHomes},
    lineage::{Instance, Lineage, Placed},
};
use crate::{
    image::{Access, CodeReference, Image, UnknownIndex, Uses, demangle, is_guard},
    model::{Addr, Vaddr},
};

mod table;

use table::{BIAS, Reading, Reference, Shift, Table};

/// The references from code that could mean several objects which part ways.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    /// By site: the object, or thread-local, that is meant. Several where nothing tells them apart and they move alike.
    meant: HashMap<Vaddr, Vec<usize>>,
    /// Those that stay open, one line per function and pair of statics.
    pub open: Vec<String>,
}

impl Decisions {
    /// The thread-local that a displacement means.
    pub fn thread_local(&self, image: &Image, site: Vaddr, offset: u64) -> Option<usize> {
        let table = Table { image, kind: Kind::ThreadLocals };
        self.of_site(site).or_else(|| table.owner(Vaddr(offset)))
    }

    /// The object that code means.
    pub fn object(&self, image: &Image, reference: &CodeReference) -> Option<usize> {
        self.of_site(reference.site).or_else(|| image.object_meant(reference.target))
    }

    fn of_site(&self, site: Vaddr) -> Option<usize> {
        self.meant.get(&site)?.first().copied()
    }

    /// As the next generation asks for them.
    pub fn into_meant(self) -> HashMap<Vaddr, Vec<usize>> {
        self.meant
    }
}

/// Decides every ambiguous reference of `image`, by comparison with the generation `parent`.
pub fn decide(
    lineage: &Lineage,
    parent: usize,
    image: &Image,
    partners: &[Option<u32>],
    homes: &PlannedHomes,
) -> Decisions {
    let mut decisions = Decisions::default();
    for kind in [Kind::Objects, Kind::ThreadLocals] {
        let new = Table { image, kind };
        let shifts = new.shifts(homes);
        let together = shifts.iter().flatten().all(|shift| Some(shift) == shifts.iter().flatten().next());
        let mut references = if together { new.of_approaching() } else { new.references() };
        let old = lineage.placed(parent);
        references.sort_by_key(|reference| reference.function);
        for references in references.chunk_by(|one, other| one.function == other.function) {
            let partner = references[0]
                .function
                .and_then(|function| partners[function as usize])
                .and_then(|family| lineage.instance(family, parent));
            let (before, uses, reach) = Default::default();
            let judge = Judge { lineage, homes, old, new, shifts: &shifts, references, partner, before, uses, reach };
            for reference in references {
                match judge.judge(reference) {
                    Verdict::Plain => {}
                    Verdict::Means(objects) => {
                        if let Some(object) = objects.first() {
                            let meant = image.object_name(&new.objects()[*object]);
                            debug!("{:?}: {:?} means `{meant}`", reference.site, reference.target);
                        }
                        decisions.meant.insert(reference.site, objects);
                    }
                    Verdict::Open(one, other) => decisions.open.push(describe(&new, reference, one, other)),
                }
            }
        }
    }
    decisions.open.dedup();
    decisions
}

/// Where a reference that code makes must lead; `None`: it already is right. What stayed open, and was forced, counts as
/// the object that lies there.
pub fn of_code(image: &Image, homes: &PlannedHomes, decisions: &Decisions, reference: &CodeReference) -> Option<Addr> {
    match decisions.of_site(reference.site) {
        Some(object) => moved(image, homes, object, reference.target),
        None => of_address(image, homes, reference.target),
    }
}

/// The same for an address as initialised data holds it.
pub fn of_address(image: &Image, homes: &PlannedHomes, target: Vaddr) -> Option<Addr> {
    let owner = Table { image, kind: Kind::Objects }.owner(target)?;
    moved(image, homes, owner, target)
}

fn moved(image: &Image, homes: &PlannedHomes, object: usize, target: Vaddr) -> Option<Addr> {
    match homes.objects[object] {
        Home::At(home) => Some(Addr(target.0.wrapping_add(home.0.wrapping_sub(image.objects[object].address.0)))),
        Home::Own => None,
    }
}

enum Verdict {
    /// What lies there, or whatever else it means moves with that.
    Plain,
    Means(Vec<usize>),
    Open(usize, usize),
}

/// What the references of one function are judged by.
struct Judge<'a> {
    lineage: &'a Lineage,
    homes: &'a PlannedHomes,
    old: &'a Placed,
    new: Table<'a>,
    shifts: &'a [Option<Shift>],
    /// All of the function.
    references: &'a [Reference],
    /// The function in the running generation.
    partner: Option<Instance>,
    /// All of that.
    before: OnceCell<Vec<Reference>>,
    /// What it does with the addresses that it takes.
    uses: OnceCell<Uses>,
    /// From where to where its walks may go, if it takes the address of anything that moves.
    reach: OnceCell<Option<(i64, i64)>>,
}

impl Judge<'_> {
    fn judge(&self, reference: &Reference) -> Verdict {
        let mut readings = self.new.readings(reference);
        let Some((owner, _)) = readings.first().copied().filter(|(owner, _)| self.shifts[*owner].is_some()) else {
            return self.far_end(reference, None).unwrap_or(Verdict::Plain);
        };
        readings.retain(|(object, _)| self.shifts[*object].is_some());
        if readings.iter().all(|(object, _)| self.shifts[*object] == self.shifts[owner]) {
            let plain = || self.new.owner(reference.target) == Some(owner);
            let far_end = self.far_end(reference, self.shifts[owner]);
            return far_end.unwrap_or_else(|| if plain() { Verdict::Plain } else { Verdict::Means(vec![owner]) });
        }
        if let Some(object) = self.by_dereference(reference, &readings).or_else(|| self.by_walk(reference)) {
            return Verdict::Means(vec![object]);
        }
        let doubt = match self.array_behind(reference, &readings) {
            Some((array, None)) => return Verdict::Means(vec![array]),
            Some((array, Some(rival))) => Some((array, rival)),
            None => None,
        };
        let told = |readings: &[Reading]| {
            let has = |object: usize| readings.iter().any(|(reading, _)| *reading == object);
            let open = doubt.is_some_and(|(array, rival)| has(array) && has(rival));
            if open { None } else { self.told(reference, readings) }
        };
        if let Some(old) = self.counterpart(reference) {
            let before = self.old_readings(old);
            let misled = doubt.is_some() || self.is_misled(reference, &readings, old, &before);
            // What is new is ruled out by nothing that was before, unless it can be seen to have come between.
            let fits = |new: &Reading| match self.previous()[new.0] {
                None => !misled,
                Some(_) => before.iter().any(|old| self.same(*old, *new)),
            };
            let fitting: Vec<Reading> = readings.iter().copied().filter(fits).collect();
            if let Some(objects) = told(&fitting) {
                return Verdict::Means(objects);
            }
        }
        let supported = self.supported(reference, &readings, doubt.map(|(array, _)| array));
        match (told(&supported), doubt) {
            (Some(objects), _) => Verdict::Means(objects),
            (None, Some((array, rival))) => Verdict::Open(array, rival),
            (None, None) => match self.by_access(reference, &readings) {
                Some(objects) => Verdict::Means(objects),
                None => self.by_use(reference, &readings, &supported),
            },
        }
    }

    /// What the readings mean that the running generation leaves. A loop that ends below an array may end where something
    /// else begins: what the code does with the address counts for more than how rare that is.
    fn told(&self, reference: &Reference, readings: &[Reading]) -> Option<Vec<usize>> {
        self.alike(readings).or_else(|| self.by_access(reference, readings)).or_else(|| self.agree(readings))
    }

    /// What the readings mean, if it makes no difference which of them is right. An address before or inside the object that
    /// is meant is so rare that it counts only where nothing else explains the reference.
    fn agree(&self, readings: &[Reading]) -> Option<Vec<usize>> {
        // Where an object begins or ends.
        let ordinary = |(object, offset): &Reading| *offset == 0 || *offset == self.new.objects()[*object].size as i64;
        let ordinary = || readings.iter().copied().filter(ordinary).collect::<Vec<_>>();
        self.alike(readings).or_else(|| self.alike(&ordinary()))
    }

    fn alike(&self, readings: &[Reading]) -> Option<Vec<usize>> {
        let (first, _) = *readings.first()?;
        let alike = readings.iter().all(|(object, _)| self.shifts[*object] == self.shifts[first]);
        alike.then(|| readings.iter().map(|(object, _)| *object).collect())
    }

    fn old_table(&self) -> Table<'_> {
        Table { image: &self.old.image, kind: self.new.kind }
    }

    /// The references of the function in the running generation.
    fn before(&self) -> &[Reference] {
        let of = |partner: Instance| self.old_table().of_function(partner.function);
        self.before.get_or_init(|| self.partner.map(of).unwrap_or_default())
    }

    /// The reference at the same place of the same instructions.
    fn counterpart(&self, reference: &Reference) -> Option<&Reference> {
        let (function, partner) = (reference.function? as usize, self.partner?);
        let (new, old) = (&self.new.image.functions[function], self.lineage.function(partner));
        if self.new.image.skeletons[function] != self.lineage.skeleton(partner) || new.size != old.size {
            return None;
        }
        let site = Vaddr(old.address.0 + (reference.site.0 - new.address.0));
        self.before().iter().find(|other| other.site == site)
    }

    /// An array which an index goes through, if it starts one element before that, and what has its last element there or ends
    /// there: the index may begin with 1 in the one, or with 0 in the other. Or with 2, and so on, where anything lies there.
    fn array_behind(&self, reference: &Reference, readings: &[Reading]) -> Option<(usize, Option<usize>)> {
        let UnknownIndex { element, array } = self.uses(reference)?.unknown_index(reference.site)?;
        let Access::Indexed(offset) = self.access(reference)? else { return None };
        let start = reference.target.0.wrapping_add_signed(offset);
        let object = |index: usize| &self.new.objects()[index];
        let objects = || readings.iter().map(|(it, _)| *it);
        let ends_here =
            |it: &usize| object(*it).end().0.wrapping_sub(start) <= element && object(*it).address.0 <= start;
        let rival = objects().find(ends_here);
        let is_behind = |it: &usize| {
            let distance = object(*it).address.0.wrapping_sub(start);
            let several = rival.is_some() && *array.start() > element;
            let farthest = if several { BIAS } else { element };
            (element..=farthest).contains(&distance)
                && distance.is_multiple_of(element)
                && array.contains(&object(*it).size)
                && rival.is_none_or(|rival| self.shifts[*it] != self.shifts[rival])
        };
        Some((objects().find(is_behind)?, rival))
    }

    /// Whether an index tells of something new where the same instructions of the running generation told of nobody: it has come
    /// to lie where an array would begin, whose index begins higher.
    fn is_misled(&self, reference: &Reference, readings: &[Reading], old: &Reference, before: &[Reading]) -> bool {
        let Some(access @ Access::Indexed(_)) = self.access(reference) else { return false };
        let told = self.new.accessed(reference, access, readings);
        // State without a symbol is what lies where code refers to: here it is the room before the array.
        let before = self
            .old_table()
            .accessed(old, access, before)
            .filter(|before| !self.old_table().objects()[*before].is_unnamed());
        told.is_some_and(|told| self.previous()[told].is_none()) && before.is_none()
    }

    /// What a reference of the running generation may mean, or was decided to mean.
    fn old_readings(&self, reference: &Reference) -> Vec<Reading> {
        let mut readings = self.old_table().readings(reference);
        if let Some(meant) = self.old.meant.get(&reference.site) {
            readings.retain(|(object, _)| meant.contains(object));
        }
        readings
    }

    /// Which object of the running generation each of the new ones continues.
    fn previous(&self) -> &[Option<usize>] {
        match self.new.kind {
            Kind::Objects => &self.homes.previous_objects,
            Kind::ThreadLocals => &self.homes.previous_thread_locals,
        }
    }

    /// Whether both mean the same place of the same object: counted from its start or, if it has grown, from its end.
    fn same(&self, old: Reading, new: Reading) -> bool {
        let (before, after) = (&self.old_table().objects()[old.0], &self.new.objects()[new.0]);
        let from_end = || old.1.wrapping_sub(before.size as i64) == new.1.wrapping_sub(after.size as i64);
        // What lies before an object is counted from its start.
        self.previous()[new.0] == Some(old.0) && (old.1 == new.1 || (old.1 >= 0 && new.1 >= 0 && from_end()))
    }

    /// What the other references mean of which the code tells.
    fn certain(&self, reference: &Reference) -> Vec<Reading> {
        let told = |other: &Reference| {
            let readings = self.new.readings(other);
            let object = self.by_dereference(other, &readings)?;
            readings.into_iter().find(|(reading, _)| *reading == object)
        };
        self.others(reference).filter(|other| !other.exact).filter_map(told).collect()
    }

    /// The readings that explain a reference of the old function which nothing else in the new one explains. What may have meant
    /// `doubted` then, wherever in it, does not tell that something else is meant now.
    fn supported(&self, reference: &Reference, readings: &[Reading], doubted: Option<usize>) -> Vec<Reading> {
        // An access to a neighbour says nothing about an address that is taken.
        let others = self.others(reference).filter(|other| !other.exact);
        let others: Vec<Vec<Reading>> = others.map(|other| self.new.readings(other)).collect();
        let old = self.before().iter().filter(|old| !old.exact);
        let old: Vec<Vec<Reading>> = old.map(|old| self.old_readings(old)).collect();
        let doubted = doubted.and_then(|array| Some((array, self.previous()[array]?)));
        let certain = self.certain(reference);
        let explains = |new: &Reading| {
            let explained = old.iter().filter(|before| {
                let elsewhere = |(array, previous)| new.0 != array && before.iter().any(|old| old.0 == previous);
                before.iter().any(|old| self.same(*old, *new))
                    && !doubted.is_some_and(elsewhere)
                    && !others.iter().any(|other| {
                        other.iter().any(|other| {
                            other.0 != new.0 && other.1 >= 0 && before.iter().any(|old| self.same(*old, *other))
                        })
                    })
            });
            explained.count() > certain.iter().filter(|other| *other == new).count()
        };
        readings.iter().copied().filter(|reading| explains(reading)).collect()
    }

    /// What lies where the code then reads or writes, at a fixed distance. That the reference meant something else before is no
    /// evidence against it: this may be new.
    fn by_dereference(&self, reference: &Reference, readings: &[Reading]) -> Option<usize> {
        let access = self.access(reference).filter(|access| matches!(access, Access::At(_)))?;
        self.new.accessed(reference, access, readings)
    }

    /// A walk downwards may end as far below its array as that is long, where anything may lie, and a walk upwards by an index
    /// start there; `here` is how that moves.
    fn far_end(&self, reference: &Reference, here: Option<Shift>) -> Option<Verdict> {
        let reach = self.reach.get_or_init(|| {
            let taken = self.references.iter().filter(|other| !other.exact);
            let moving = taken.filter_map(|other| {
                let object = self.new.used_at(other.target)?;
                self.shifts[object].is_some().then(|| self.new.reach(object))
            });
            moving.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
        });
        let in_reach = reach.is_some_and(|(low, end)| (low..end).contains(&(reference.target.0 as i64)));
        // What nothing moves counts as nothing: a linker may give the GOT itself a symbol and a size.
        let nothing_here = self.new.used_at(reference.target).is_none_or(|object| self.shifts[object].is_none());
        if reference.exact || !(in_reach || nothing_here) {
            return None;
        }
        let object = match self.access(reference)? {
            Access::At(offset) if nothing_here => {
                self.new.used_at(Vaddr(reference.target.0.wrapping_add_signed(offset)))?
            }
            Access::Compared => self.by_walk(reference)?,
            _ => return None,
        };
        let moves = self.shifts[object].is_some() && self.shifts[object] != here;
        moves.then(|| Verdict::Means(vec![object]))
    }

    /// A pointer that walks ends in the object where it starts, if only one before its beginning: where an access tells the
    /// one end, it tells the other.
    fn by_walk(&self, reference: &Reference) -> Option<usize> {
        if reference.exact {
            return None;
        }
        let mut other_ends = self.uses(reference)?.walks().iter().filter_map(|(one, other)| {
            let end = if *one == reference.site { other } else { (*other == reference.site).then_some(one)? };
            self.references.iter().find(|it| it.site == *end)
        });
        let reaches = |object: usize| {
            let (lowest, end) = self.new.reach(object);
            (lowest..=end).contains(&(reference.target.0 as i64))
        };
        let object = other_ends.find_map(|end| self.new.accessed(end, self.access(end)?, &self.new.readings(end)))?;
        reaches(object).then_some(object)
    }

    /// What the code does next with the address tells who is meant, where it reads or writes there; where it only compares,
    /// it is somebody whom the function uses besides.
    fn by_access(&self, reference: &Reference, readings: &[Reading]) -> Option<Vec<usize>> {
        let access = self.access(reference)?;
        if access == Access::Compared {
            let used = |(object, _): &&Reading| self.others(reference).any(|other| self.means(other, *object));
            return self.agree(&readings.iter().filter(used).copied().collect::<Vec<_>>());
        }
        self.new.accessed(reference, access, readings).map(|only| vec![only])
    }

    /// What the function of the reference does with the addresses that it takes.
    fn uses(&self, reference: &Reference) -> Option<&Uses> {
        let function = reference.function?;
        Some(self.uses.get_or_init(|| {
            let taken = self.references.iter().filter(|other| !other.exact);
            let mut sites: Vec<Vaddr> = taken.map(|other| other.site).collect();
            sites.sort_unstable();
            Uses::of(self.new.image, function, &sites)
        }))
    }

    fn access(&self, reference: &Reference) -> Option<Access> {
        Some(self.uses(reference)?.access(reference.site))
    }

    /// The other references of the same function.
    fn others(&self, reference: &Reference) -> impl Iterator<Item = &Reference> {
        // What stands in no function stands beside nothing.
        let all = if reference.function.is_some() { self.references } else { &[] };
        let site = reference.site;
        all.iter().filter(move |other| other.site != site)
    }

    fn means(&self, reference: &Reference, object: usize) -> bool {
        self.new.used_at(reference.target) == Some(object)
            || self.new.readings(reference).iter().any(|(reading, offset)| *reading == object && *offset >= 0)
    }

    /// Whether nobody has a use for where this object ends, and the other begins: walks through arrays end there. C++ hands the
    /// address of the guard of a static to the library, and does nothing else with it.
    fn is_never_walked(&self, object: usize, other: usize) -> bool {
        let is_guard = |object: usize| is_guard(self.new.image.object_name(&self.new.objects()[object]));
        if is_guard(object) || is_guard(other) {
            return true;
        }
        let (table, object) = match self.previous()[object] {
            Some(previous) => (self.old_table(), previous),
            None => (self.new, object),
        };
        let thread_local = table.kind == Kind::ThreadLocals;
        let variables = table.image.layouts().variables_at(thread_local, table.objects()[object].address);
        !variables.is_empty() && variables.iter().all(|variable| !variable.ends_in_array)
    }

    /// Otherwise another object than the one that lies there is meant only if the function uses it elsewhere or did so
    /// before, and then nobody can tell.
    fn by_use(&self, reference: &Reference, readings: &[Reading], supported: &[Reading]) -> Verdict {
        let (owner, inside) = readings[0];
        let certain = self.certain(reference);
        let uses = |object: usize| {
            certain.iter().any(|(certain, _)| *certain == object)
                || self.others(reference).any(|other| self.new.used_at(other.target) == Some(object))
        };
        let compared = self.access(reference) == Some(Access::Compared);
        let rival = readings.iter().skip(1).find(|(object, offset)| {
            self.shifts[*object] != self.shifts[owner]
                && (supported.iter().any(|(supported, _)| supported == object)
                    // Who starts below an array does not start exactly where something else does, save by accident.
                    || uses(*object)
                        && (*offset >= 0 || (inside != 0 && !uses(owner)))
                        && !(inside == 0 && !compared && self.is_never_walked(*object, owner)))
        });
        match rival {
            Some((rival, _)) => Verdict::Open(*rival, owner),
            None => Verdict::Means(vec![owner]),
        }
    }
}

fn describe(table: &Table<'_>, reference: &Reference, rival: usize, owner: usize) -> String {
    let image = table.image;
    let function = reference.function.map_or_else(
        || format!("code at {:?}", reference.site),
        |function| format!("`{}`", demangle(image.function_name(&image.functions[function as usize]))),
    );
    let name = |index: usize| demangle(image.object_name(&table.objects()[index]));
    let (rival_object, owner_object) = (&table.objects()[rival], &table.objects()[owner]);
    if rival_object.end() == owner_object.address {
        format!(
            "{function} takes an address that is both the end of `{}` and the start of `{}`, which no longer lie together: \
             declare the new one elsewhere, or with something between",
            name(rival),
            name(owner)
        )
    } else {
        format!(
            "{function} takes an address that may mean `{}` or `{}`, which no longer lie together",
            name(rival),
            name(owner)
        )
    }
}
