//! Where each static and thread-local lives: in the storage of the generation that first had it, so that state stays.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
use smallvec::{SmallVec, smallvec};

use super::{
    lineage::{Lineage, Placed},
    matching::{Traits, overlap, pair},
    newcomers::{Newcomers, home_before},
    registration,
};
use crate::{
    image::{Content, Image, NameKey, Object, TextKey, by_name, demangle, guarded, without_hash},
    model::{Addr, Details, LoadBias, Place},
};

/// Storage of a static in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// An older generation's, or another module's.
    At(Addr),
    /// The new generation's own.
    Own,
}

/// Storage of a thread-local: the module whose TLS block holds it, and the offset there; for a program's, the distance from
/// the thread pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsHome {
    At { module: u64, offset: u64 },
    Own,
}

/// The homes of a generation not loaded yet, and what is to be told about them.
#[derive(Debug, Default)]
pub struct PlannedHomes {
    /// Parallel to the image's objects.
    pub objects: Vec<Home>,
    /// Parallel to the image's thread-locals.
    pub thread_locals: Vec<TlsHome>,
    /// Parallel to the image's objects: which of the running generation's each continues, if only by name.
    pub previous_objects: Vec<Option<usize>>,
    /// The same for thread-locals.
    pub previous_thread_locals: Vec<Option<usize>>,
    /// Indices of objects by what becomes of them; named constants and markers count nowhere.
    pub kept: Vec<usize>,
    pub new: Vec<usize>,
    pub reset: Vec<usize>,
    /// Those of `kept` whose initial value differs from the one the running generation was built with.
    pub reinitialised: Vec<usize>,
    /// Indices of thread-locals.
    pub new_thread_locals: Vec<usize>,
    pub reset_thread_locals: Vec<usize>,
    /// Whether what registers the module with the Python interpreter differs from the running generation's.
    pub registers_anew: bool,
    /// Names that several statics share and that nothing tells apart.
    pub ambiguous: Vec<String>,
    /// Those told apart by nothing but their order in functions that have changed.
    pub by_order: Vec<String>,
    /// Sections that code goes through from start to end and whose statics are others now; all of them start anew.
    pub renewed_sets: Vec<String>,
    /// Statics whose place cannot be told, each with the reason.
    pub unplaced: Vec<String>,
}

impl PlannedHomes {
    /// Whether no static but constants lives in the new generation.
    pub fn keeps_all_state(&self, image: &Image) -> bool {
        let new = |(home, object): (&Home, &Object)| *home == Home::Own && !object.constant && object.size > 0;
        !self.objects.iter().zip(&image.objects).any(new)
    }

    /// The same once the generation has been loaded.
    pub fn placed(&self, place: Place, image: &Image) -> Homes {
        let object = |(home, object): (&Home, &Object)| match home {
            Home::At(address) => *address,
            Home::Own => place.bias.addr(object.address),
        };
        let thread_local = |(home, object): (&TlsHome, &Object)| match home {
            TlsHome::At { module, offset } => (*module, *offset),
            TlsHome::Own => place.thread_local(object.address.0),
        };
        Homes {
            objects: self.objects.iter().zip(&image.objects).map(object).collect(),
            thread_locals: self.thread_locals.iter().zip(&image.thread_locals).map(thread_local).collect(),
            elsewhere: HashSet::new(),
        }
    }
}

/// The homes of a loaded generation.
#[derive(Clone, Debug, Default)]
pub struct Homes {
    /// Parallel to the image's objects.
    pub objects: Vec<Addr>,
    /// Parallel to the image's thread-locals: TLS module id and offset.
    pub thread_locals: Vec<(u64, u64)>,
    /// Homes that lie in other modules.
    pub elsewhere: HashSet<Addr>,
}

impl Homes {
    /// Generation 0 lives where the loader put it, except where `elsewhere` says that the process uses another copy of an
    /// exported object (COPY relocations, interposition).
    pub fn of_original(image: &Image, bias: LoadBias, tls_module: u64, elsewhere: &BTreeMap<usize, Addr>) -> Homes {
        let tls_base = image.tables.thread_pointer().unwrap_or(0).wrapping_neg();
        let place = Place { bias, tls_module, tls_base };
        let object = |(index, object): (usize, &Object)| {
            elsewhere.get(&index).copied().unwrap_or_else(|| bias.addr(object.address))
        };
        Homes {
            objects: image.objects.iter().enumerate().map(object).collect(),
            thread_locals: image.thread_locals.iter().map(|object| place.thread_local(object.address.0)).collect(),
            elsewhere: elsewhere.values().copied().collect(),
        }
    }
}

/// Per function, a hash of where the statics it refers to live, directly or through the GOT: two functions with the same
/// content do the same only on the same storage.
pub fn storage(image: &Image, homes: &Homes) -> Vec<u64> {
    let mut storage = vec![0u64; image.functions.len()];
    for (function, object) in image.uses_of_state() {
        let home = homes.objects[*object as usize].0;
        // Order counts for nothing here, so that a plain sum will do.
        let mixed = home.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ home.rotate_left(31);
        let place = &mut storage[*function as usize];
        *place = place.wrapping_add(mixed);
    }
    // Aliases share their code; the scan notes it under the first.
    for index in 1..storage.len() {
        if image.functions[index].address == image.functions[index - 1].address {
            storage[index] = storage[index - 1];
        }
    }
    storage
}

/// Finds a home for every static and thread-local of `image`, which follows generation `parent`; `partners` are the families
/// of its functions, `namesakes` what [`namesakes`] found.
pub fn plan(
    lineage: &Lineage,
    parent: usize,
    image: &Image,
    partners: &[Option<u32>],
    namesakes: Namesakes<'_>,
) -> PlannedHomes {
    let mut planned = PlannedHomes {
        objects: vec![Home::Own; image.objects.len()],
        thread_locals: vec![TlsHome::Own; image.thread_locals.len()],
        previous_objects: vec![None; image.objects.len()],
        previous_thread_locals: vec![None; image.thread_locals.len()],
        ..PlannedHomes::default()
    };
    let is_running = |placed: &Placed| placed.number == lineage.placed(parent).number;
    let registration = registration::statics(image);
    let types = registration::types(image);
    planned.registers_anew = registers_anew(&lineage.placed(parent).image, image, &registration);
    let newcomers = Newcomers::of(lineage, parent, image, partners);
    let mut returning = Vec::new();
    let Namesakes { groups: groups_of_objects, mut unknown } = namesakes;
    for (placed, olds, mut news) in groups_of_objects {
        news.retain(|index| !registration.contains(index));
        news.retain(|index| {
            let is_new = newcomers.have(image, *index);
            unknown.extend(is_new.then_some(*index));
            let shares_users = |old: &usize| overlap(placed.image.users_of(*old), image.users_of(*index));
            let family = newcomers.returning_with(image, *index).filter(|_| !olds.iter().any(shares_users));
            returning.extend(family.map(|family| (*index, family)));
            !is_new && family.is_none()
        });
        if news.is_empty() {
            continue;
        }
        // A single pair from the same file needs no more evidence than its name.
        let several = olds.len() + news.len() > 2 || placed.image.objects[olds[0]].file != image.objects[news[0]].file;
        let traits = |image: &Image, index: &usize| Traits {
            file: image.objects[*index].file,
            version: image.objects[*index].version,
            content: None,
            users: if several { image.users_of(*index).to_vec() } else { Vec::new() },
            sure_users: if several { image.sure_users_of(*index).to_vec() } else { Vec::new() },
            first_use: if several { image.first_use_of(*index) } else { 0 },
        };
        let all = |image: &Image, indices: &[usize]| -> SmallVec<[Traits; 1]> {
            indices.iter().map(|index| traits(image, index)).collect()
        };
        let pairing = pair(&all(&placed.image, &olds), &all(image, &news));
        if pairing.by_order && users_differ(&placed.image, image, &news) {
            planned.by_order.push(image.object_name(&image.objects[news[0]]).to_owned());
        }
        if pairing.ambiguous && news.iter().any(|index| !image.objects[*index].constant) {
            planned.ambiguous.push(image.object_name(&image.objects[news[0]]).to_owned());
        }
        for (index, partner) in news.iter().zip(&pairing.partners) {
            let object = &image.objects[*index];
            planned.previous_objects[*index] = partner.filter(|_| is_running(placed)).map(|partner| olds[partner]);
            let old =
                partner.map(|partner| (&placed.image.objects[olds[partner]], placed.homes.objects[olds[partner]]));
            planned.objects[*index] = match old {
                // A constant means the same in every generation; new code reads its own.
                Some((old, _)) if object.constant || old.constant => Home::Own,
                Some((old, home)) if old.size == object.size => {
                    if object.size > 0 {
                        planned.kept.push(*index);
                    }
                    let same = old.content.is_some() && old.content == object.content;
                    if !same && !types.contains(index) {
                        planned.reinitialised.push(*index);
                    }
                    Home::At(home)
                }
                Some(_) => {
                    planned.reset.push(*index);
                    Home::Own
                }
                None => {
                    if !object.constant && object.size > 0 {
                        planned.new.push(*index);
                    }
                    Home::Own
                }
            };
        }
    }
    for (index, family) in returning {
        match home_before(lineage, family, image, index) {
            Some(home) => {
                planned.objects[index] = Home::At(home);
                planned.kept.push(index);
            }
            None => unknown.push(index),
        }
    }
    for index in std_backtrace_caches(image) {
        // A cache of this generation's own mappings: shared, it would name every frame `<unknown>`.
        planned.objects[index] = Home::Own;
        planned.kept.retain(|kept| *kept != index);
    }
    planned.new.extend(unknown.into_iter().filter(|index| {
        let object = &image.objects[*index];
        !object.constant && object.size > 0 && !registration.contains(index)
    }));

    renew_sets(&lineage.placed(parent).image, image, &mut planned);
    renew_guards(image, &image.objects, &mut planned.objects, &Home::Own);
    planned.kept.retain(|index| planned.objects[*index] != Home::Own);
    planned.unplaced = unplaced(&lineage.placed(parent).image, image, &planned);
    if same_thread_locals(&lineage.placed(parent).image, image) {
        let homes = &lineage.placed(parent).homes.thread_locals;
        planned.thread_locals =
            homes.iter().map(|(module, offset)| TlsHome::At { module: *module, offset: *offset }).collect();
        planned.previous_thread_locals = (0..homes.len()).map(Some).collect();
        return planned;
    }
    let mut paired = vec![false; image.thread_locals.len()];
    for (placed, olds, news) in grouped(lineage, parent, image, Kind::ThreadLocals).groups {
        let traits = |image: &Image, indices: &[usize]| -> Vec<Traits> {
            indices.iter().map(|index| Traits { file: image.thread_locals[*index].file, ..Traits::default() }).collect()
        };
        let pairing = pair(&traits(&placed.image, &olds), &traits(image, &news));
        if pairing.ambiguous {
            planned.ambiguous.push(image.object_name(&image.thread_locals[news[0]]).to_owned());
        }
        for (index, partner) in news.iter().zip(&pairing.partners) {
            let Some(partner) = partner else { continue };
            paired[*index] = true;
            planned.previous_thread_locals[*index] = is_running(placed).then(|| olds[*partner]);
            let (module, offset) = placed.homes.thread_locals[olds[*partner]];
            if placed.image.thread_locals[olds[*partner]].size == image.thread_locals[*index].size {
                planned.thread_locals[*index] = TlsHome::At { module, offset };
            } else {
                planned.reset_thread_locals.push(*index);
            }
        }
    }
    renew_guards(image, &image.thread_locals, &mut planned.thread_locals, &TlsHome::Own);
    planned.new_thread_locals = (0..paired.len()).filter(|index| !paired[*index]).collect();
    planned
}

/// A C++ static that starts anew is constructed anew: what says that it has been is its own as well.
fn renew_guards<H: PartialEq + Clone>(image: &Image, objects: &[Object], homes: &mut [H], own: &H) {
    let renewed = (0..objects.len()).filter(|index| homes[*index] == *own && !objects[*index].constant);
    let renewed: HashSet<(&str, Option<TextKey>)> =
        renewed.map(|index| (image.object_name(&objects[index]), objects[index].file)).collect();
    if renewed.is_empty() {
        return;
    }
    for (object, home) in objects.iter().zip(homes).filter(|(_, home)| **home != *own) {
        let guarded = guarded(image.object_name(object));
        if guarded.is_some_and(|name| renewed.contains(&(&*name, object.file))) {
            *home = own.clone();
        }
    }
}

/// A section whose name is an identifier of C: linkers define where it starts and stops, and code goes through all of it. Its
/// statics stay together, or none does.
fn renew_sets(old: &Image, new: &Image, planned: &mut PlannedHomes) {
    let is_identifier = |name: &str| {
        !name.starts_with(|first: char| first.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let sets = |image: &'_ Image| -> Vec<(String, u64, Range<usize>)> {
        let sections = image.tables.sections.iter().filter(|it| it.kind.is_state() && is_identifier(&it.name));
        let index_of = |address: u64| image.objects.partition_point(|object| object.address.0 < address);
        sections.map(|it| (it.name.clone(), it.address, index_of(it.address)..index_of(it.end()))).collect()
    };
    let described = |image: &Image, start: u64, statics: &Range<usize>| -> Vec<(NameKey, u64, u64)> {
        image.objects[statics.clone()].iter().map(|it| (it.key, it.address.0 - start, it.size)).collect()
    };
    let before: HashMap<String, (u64, Range<usize>)> =
        sets(old).into_iter().map(|(name, start, statics)| (name, (start, statics))).collect();
    let mut renewed: HashSet<usize> = HashSet::new();
    for (name, start, statics) in sets(new) {
        let Some((was, old_statics)) = before.get(&name) else { continue };
        if described(old, *was, old_statics) != described(new, start, &statics) {
            renewed.extend(statics.filter(|index| planned.objects[*index] != Home::Own));
            planned.renewed_sets.push(name);
        }
    }
    for index in &renewed {
        planned.objects[*index] = Home::Own;
    }
    planned.kept.retain(|kept| !renewed.contains(kept));
    planned.reinitialised.retain(|changed| !renewed.contains(changed));
    planned.reset.extend(renewed);
    planned.reset.sort_unstable();
}

/// Of so many, the indices that nothing has for the previous one.
pub fn not_continued(previous: &[Option<usize>], count: usize) -> impl Iterator<Item = usize> + use<> {
    let mut continued = vec![false; count];
    previous.iter().flatten().for_each(|index| continued[*index] = true);
    (0..count).filter(move |index| !continued[*index])
}

/// Reasons why statics cannot stay where they are: data without a symbol among which something has moved, and names that were
/// one variable and are two, or the other way round.
fn unplaced(old: &Image, new: &Image, planned: &PlannedHomes) -> Vec<String> {
    let mut reasons = Vec::new();
    let section = |image: &Image, object: &Object| image.section_at(object.address).map(|it| it.name.clone());
    let lost: HashSet<Option<String>> = not_continued(&planned.previous_objects, old.objects.len())
        .map(|index| &old.objects[index])
        .filter(|object| object.is_unnamed())
        .map(|object| section(old, object))
        .collect();
    for (index, object) in new.objects.iter().enumerate() {
        let fresh = planned.objects[index] == Home::Own && object.is_unnamed();
        let resized = fresh && planned.previous_objects[index].is_some();
        if resized || (fresh && lost.contains(&section(new, object))) {
            let users = new.users_of(index);
            let user = new.functions.iter().find(|function| users.contains(&new.identity(function).key));
            let user = user.map_or("code", |function| new.function_name(function));
            if reasons.len() >= Details::LIMIT {
                break;
            }
            reasons.push(format!(
                "`{}` uses data without a symbol, and what lies around it has changed: where it is now cannot be told; give it \
                 a symbol (assembly: no `.L` name), or build without stripping",
                demangle(user)
            ));
        }
    }
    let mut places: Vec<(Addr, usize)> = (planned.objects.iter().enumerate())
        .filter(|(index, _)| new.objects[*index].size > 0)
        .filter_map(|(index, home)| if let Home::At(home) = home { Some((*home, index)) } else { None })
        .collect();
    places.sort_unstable();
    let name = |index: usize| demangle(new.object_name(&new.objects[index]));
    for pair in places.windows(2) {
        let [(one, first), (other, second)] = [pair[0], pair[1]];
        let (first_object, second_object) = (&new.objects[first], &new.objects[second]);
        let overlap = other.0 - one.0 < first_object.size;
        let apart = second_object.address.0.wrapping_sub(first_object.address.0);
        if overlap && apart != other.0 - one.0 {
            reasons.push(format!(
                "`{}` and `{}` were two names of one variable and are two variables now: which of them keeps its value cannot \
                 be told",
                name(first),
                name(second)
            ));
        }
    }
    for (pair, index) in new.objects.windows(2).zip(0..) {
        let both_state = pair.iter().all(|object| object.size > 0 && !object.constant);
        if both_state
            && pair[0].address == pair[1].address
            && let (Home::At(one), Home::At(other)) = (planned.objects[index], planned.objects[index + 1])
            && one != other
        {
            reasons.push(format!(
                "`{}` and `{}` were two variables and are one now: which value it has cannot be told",
                name(index),
                name(index + 1)
            ));
        }
    }
    reasons
}

/// Whether a function that uses one of `objects`, of the new file, has changed.
fn users_differ(old: &Image, new: &Image, objects: &[usize]) -> bool {
    let users: HashSet<NameKey> = objects.iter().flat_map(|object| new.users_of(*object)).copied().collect();
    let contents = |image: &Image| -> Vec<(NameKey, Option<Content>)> {
        let mut contents: Vec<(NameKey, Option<Content>)> = image
            .functions
            .iter()
            .map(|it| image.whole_key(it))
            .zip(image.contents.iter().copied())
            .filter(|(key, _)| users.contains(key))
            .collect();
        contents.sort_unstable();
        contents
    };
    contents(old) != contents(new)
}

/// Whether both files have the same thread-locals at the same offsets: then even those of one name are told apart.
fn same_thread_locals(old: &Image, new: &Image) -> bool {
    let all = |image: &'_ Image| -> Vec<_> {
        image.thread_locals.iter().map(|object| (object.key, object.address, object.size)).collect()
    };
    all(old) == all(new)
}

/// Whether the statics of the registration are others, or start with other values, than in `old`.
fn registers_anew(old: &Image, new: &Image, registration: &BTreeSet<usize>) -> bool {
    let contents = |image: &Image, statics: &BTreeSet<usize>| {
        let types = registration::types(image);
        let mut contents: Vec<(NameKey, u64, Option<Content>)> =
            statics.union(&types).map(|index| &image.objects[*index]).map(|o| (o.key, o.size, o.content)).collect();
        contents.sort_unstable();
        contents
    };
    contents(old, &registration::statics(old)) != contents(new, registration)
}

/// Indices of objects: mostly one.
type Indices = SmallVec<[usize; 1]>;

/// A generation, its objects of one name, and the new objects of that name.
type Group<'a> = (&'a Placed, Indices, Indices);

/// The objects of a new file and those that may be the same, by their names alone.
pub struct Namesakes<'a> {
    /// Per name that both sides know. The newest on the way to the running generation comes first, then what was rolled back.
    groups: Vec<Group<'a>>,
    /// The new objects whose name no generation knows.
    unknown: Vec<usize>,
}

/// Of the statics of `image`, which follows generation `parent`.
pub fn namesakes<'a>(lineage: &'a Lineage, parent: usize, image: &Image) -> Namesakes<'a> {
    grouped(lineage, parent, image, Kind::Objects)
}

/// Of what kind statics are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Objects,
    ThreadLocals,
}

impl Kind {
    /// Those that a file has.
    pub fn of(self, image: &Image) -> &[Object] {
        match self {
            Kind::Objects => &image.objects,
            Kind::ThreadLocals => &image.thread_locals,
        }
    }

    /// Their names, ascending, and their indices.
    fn by_name(self, image: &Image) -> Cow<'_, [(NameKey, u32)]> {
        match self {
            // What is retired keeps nothing for the next file; there may be a thousand of those.
            Kind::Objects if !image.is_retired() => Cow::Borrowed(image.objects_by_name()),
            _ => Cow::Owned(by_name(self.of(image))),
        }
    }
}

fn grouped<'a>(lineage: &'a Lineage, parent: usize, image: &Image, kind: Kind) -> Namesakes<'a> {
    let sorted = kind.by_name(image);
    let mut left: Vec<&[(NameKey, u32)]> = sorted.chunk_by(|one, next| one.0 == next.0).collect();
    let mut result = Vec::with_capacity(left.len());
    let path = lineage.path(parent);
    let left_behind = (0..lineage.all().len()).filter(|generation| path.binary_search(generation).is_err());
    let generations: Vec<usize> = path.iter().copied().rev().chain(left_behind.rev()).collect();
    for generation in generations.iter().copied() {
        // Most find all they look for in the first.
        if left.is_empty() {
            break;
        }
        let placed = lineage.placed(generation);
        let olds = kind.by_name(&placed.image);
        let mut at = 0;
        left.retain(|news| {
            let name = news[0].0;
            at += olds[at..].iter().take_while(|(known, _)| *known < name).count();
            let here = olds[at..].iter().take_while(|(known, _)| *known == name).count();
            if here > 0 {
                result.push((placed, indices(&olds[at..at + here]), indices(news)));
            }
            here == 0
        });
    }
    let mut unknown = left.into_iter().map(|news| (news[0].0, indices(news))).collect();
    result.extend(renamed(lineage, &generations, image, kind, &mut unknown));
    result.sort_by_cached_key(|(_, _, news)| news[0]);
    let mut unknown: Vec<usize> = unknown.into_values().flatten().collect();
    unknown.sort_unstable();
    Namesakes { groups: result, unknown }
}

fn indices(of: &[(NameKey, u32)]) -> Indices {
    of.iter().map(|(_, index)| *index as usize).collect()
}

/// In rustc's older scheme a static has another name when a type in its own is edited in any way, if only by a `pub`: what
/// `unknown` holds and no new name takes is told by the path, where that is all there is of it, and leaves `unknown`.
fn renamed<'a>(
    lineage: &'a Lineage,
    generations: &[usize],
    image: &Image,
    kind: Kind,
    unknown: &mut HashMap<NameKey, Indices>,
) -> Vec<Group<'a>> {
    let new = kind.of(image);
    let mut by_path: HashMap<(&str, &str), Indices> = HashMap::new();
    for index in unknown.values().flatten() {
        if let Some(path) = without_hash(image.object_name(&new[*index])) {
            by_path.entry(path).or_default().push(*index);
        }
    }
    let mut told: Vec<Group<'a>> = Vec::new();
    if by_path.is_empty() {
        return told;
    }
    let taken: HashSet<NameKey> = new.iter().map(|object| object.key).collect();
    for generation in generations {
        let placed = lineage.placed(*generation);
        let old = kind.of(&placed.image);
        let mut here: HashMap<(&str, &str), Indices> = HashMap::new();
        for (index, object) in old.iter().enumerate().filter(|(_, object)| !taken.contains(&object.key)) {
            let path = without_hash(placed.image.object_name(object));
            if let Some(path) = path.filter(|path| by_path.contains_key(path)) {
                here.entry(path).or_default().push(index);
            }
        }
        for (path, mut olds) in here {
            let Some(mut news) = by_path.remove(&path) else { continue };
            // `thread_local!` makes two of one path, as a rule of different sizes.
            for index in news.clone() {
                let size = new[index].size;
                if let (Some(same), Some(_)) = (only(&olds, old, size), only(&news, new, size)) {
                    olds.retain(|it| *it != same);
                    news.retain(|it| *it != index);
                    told.push((placed, smallvec![same], smallvec![index]));
                }
            }
            if !olds.is_empty() && !news.is_empty() {
                told.push((placed, olds, news));
            }
        }
    }
    for index in told.iter().flat_map(|(_, _, news)| news) {
        unknown.remove(&new[*index].key);
    }
    told
}

/// The only one of these objects that has this size.
fn only(of: &[usize], table: &[Object], size: u64) -> Option<usize> {
    let mut fitting = of.iter().copied().filter(|index| table[*index].size == size);
    fitting.next().filter(|_| fitting.next().is_none())
}

/// In a file whose backtraces are written by Rust's standard library or its `backtrace` package.
pub const BACKTRACE_CACHE: &str = "MAPPINGS_CACHE";

/// Indices of `std::backtrace_rs::symbolize::gimli::Cache::with_global::MAPPINGS_CACHE`, which a file has once or not at all.
pub fn std_backtrace_caches(image: &Image) -> Vec<usize> {
    if !image.names_contain(&[BACKTRACE_CACHE]) {
        return Vec::new();
    }
    let is_one = |object: &Object| !object.constant && image.object_name(object).contains(BACKTRACE_CACHE);
    (0..image.objects.len()).filter(|index| is_one(&image.objects[*index])).collect()
}
