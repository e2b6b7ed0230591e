//! Where old entries lead after many generations: followed through the bytes that would stand in the process, whatever way the
//! generations came and went.

use std::{collections::BTreeMap, path::Path, process::Command, sync::Arc};

use reload_engine::{
    image::Image,
    model::{Addr, Generation, LoadBias, Place},
    plan::{
        self, Objections,
        bind::{self, FunctionIdentities},
        entries::{Transition, transition},
        homes::Homes,
        lineage::Lineage,
        residents::Residents,
    },
};

const FAR: u64 = 0x10_0000_0000;

/// The library's bytes in the process as far as patches have changed them, by address.
#[derive(Default)]
struct Memory(BTreeMap<u64, u8>);

struct World {
    folder: tempfile::TempDir,
    lineage: Lineage,
    memory: Memory,
    active: usize,
}

impl World {
    fn new(source: &str) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let image = build(folder.path(), source);
        let bias = LoadBias(FAR);
        let homes = Homes::of_original(&image, bias, 1, &BTreeMap::new());
        World { lineage: Lineage::new(image, bias, 1, homes), folder, memory: Memory::default(), active: 0 }
    }

    /// Loads the next generation and makes it run; how many entries that wrote to.
    fn reload(&mut self, source: &str) -> usize {
        let image = build(self.folder.path(), source);
        let plan = plan::plan(&self.lineage, self.active, image, Objections::Refuse).expect("nothing against it");
        let number = self.lineage.all().len();
        let place =
            Place { bias: LoadBias(FAR + number as u64 * 0x10_0000), tls_module: 1 + number as u64, tls_base: 0 };
        let functions = FunctionIdentities::new(&plan, &self.lineage);
        let residents = Residents::of(&plan, &self.lineage, &functions);
        let code = bind::code(&plan, &functions, &residents, place).expect("all in reach");
        let new = self.lineage.place(&plan, Generation(number as u32), place, &code);
        let step = transition(&self.lineage, self.active, new, Some(new));
        self.take(step, new)
    }

    fn roll_back(&mut self, to: usize) -> usize {
        let step = transition(&self.lineage, self.active, to, None);
        self.take(step, to)
    }

    fn take(&mut self, step: Transition, active: usize) -> usize {
        for patch in &step.patches {
            let len = usize::from(patch.len);
            // As the agent does: what stands there must be what was foreseen.
            let found = self.bytes(patch.address, len);
            assert_eq!(found, patch.before[..len], "at {:#x}", patch.address);
            self.memory.0.extend((patch.address..).zip(patch.after[..len].iter().copied()));
        }
        assert!(step.far.is_empty() && step.unpatchable.is_empty());
        self.active = active;
        step.patches.len()
    }

    fn bytes(&self, address: u64, len: usize) -> Vec<u8> {
        let placed = self.lineage.all().iter().rev().find(|placed| placed.bias.0 <= address).expect("ours");
        let file = placed.image.bytes_from(placed.bias.vaddr(Addr(address)));
        (0..len).map(|at| self.memory.0.get(&(address + at as u64)).copied().unwrap_or(file[at])).collect()
    }

    /// The generation whose code runs when `name` of generation `of` is called, and over how many jumps.
    fn runs(&self, name: &str, of: usize) -> (usize, usize) {
        let placed = self.lineage.placed(of);
        let mut functions = placed.image.functions.iter();
        let function = functions.find(|function| placed.image.function_name(function) == name).expect("it has it");
        let mut at = placed.bias.addr(function.address).0;
        for jumps in 0..4 {
            // Past an `endbr64`.
            let start = if self.bytes(at, 4) == [0xf3, 0x0f, 0x1e, 0xfa] { at + 4 } else { at };
            let bytes = self.bytes(start, 5);
            if bytes[0] != 0xe9 {
                let generation = self.lineage.all().iter().rposition(|placed| placed.bias.0 <= at).expect("ours");
                return (generation, jumps);
            }
            let distance = i32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
            at = (start + 5).wrapping_add_signed(distance.into());
        }
        panic!("{name} of generation {of} leads round in circles");
    }
}

fn build(folder: &Path, source: &str) -> Arc<Image> {
    let (input, output) = (folder.join("library.c"), folder.join("library.so"));
    std::fs::write(&input, source).expect("the folder is ours");
    let mut command = Command::new("gcc");
    command.args(["-shared", "-fPIC", "-O1", "-fno-inline", "-o"]).arg(&output).arg(&input);
    assert!(command.status().expect("gcc is installed").success());
    let bytes = std::fs::read(&output).expect("just built");
    Arc::new(Image::parse(&output, bytes).expect("a library"))
}

/// `edited` returns `version`, `steady` is never changed and calls it.
fn source(version: u32) -> String {
    format!(
        "long edited(long x) {{ return x * 7 + {version}; }}\nlong steady(long x) {{ return edited(x) * x + 3; }}\n"
    )
}

#[test]
fn a_reload_writes_to_two_entries_however_many_generations_there_are() {
    let mut world = World::new(&source(0));
    let written: Vec<usize> = (1..=30).map(|version| world.reload(&source(version))).collect();
    assert_eq!(written[0], 1);
    assert!(written[1..].iter().all(|count| *count == 2), "{written:?}");
    for generation in 0..=30 {
        let (runs, jumps) = world.runs("edited", generation);
        assert_eq!(runs, 30, "`edited` of generation {generation}");
        assert!(jumps <= 2, "{jumps} jumps from generation {generation}");
        assert_eq!(world.runs("steady", generation), (generation, 0));
    }
    // What pointers lead to takes one.
    assert_eq!(world.runs("edited", 0), (30, 1));
}

#[test]
fn what_comes_back_leads_where_it_should_whatever_the_way() {
    let mut world = World::new(&source(0));
    let mut versions = vec![0];
    // Numbers of versions; those below 0 are rollbacks to that generation.
    let steps = [1, 2, 1, 2, 0, 3, -2, 4, 4, -0x100, 5, 1, -5, 6, -1, 1, 2, -6, 7];
    for step in steps {
        let back = if step == -0x100 { Some(0) } else { (step < 0).then_some(-step as usize) };
        match back {
            Some(to) => drop(world.roll_back(to)),
            None => {
                versions.push(step);
                world.reload(&source(step as u32));
            }
        }
        for generation in 0..versions.len() {
            let (runs, jumps) = world.runs("edited", generation);
            assert_eq!(versions[runs], versions[world.active], "`edited` of generation {generation} after step {step}");
            assert!(jumps <= 2);
        }
    }
}

#[test]
fn functions_that_share_an_entry_for_a_while() {
    let apart = |version: u32| {
        format!("long one(long x) {{ return x * 5 + {version}; }}\nlong two(long x) {{ return x * 9 - {version}; }}\n")
    };
    let together = |version: u32| {
        format!("long one(long x) {{ return x * 5 + {version}; }}\nlong two(long) __attribute__((alias(\"one\")));\n")
    };
    let mut world = World::new(&apart(0));
    world.reload(&apart(1));
    world.reload(&together(2));
    world.reload(&together(3));
    for (name, generation) in [("one", 0), ("one", 1), ("one", 2), ("two", 0), ("two", 1), ("two", 2)] {
        assert_eq!(world.runs(name, generation).0, 3, "`{name}` of generation {generation}");
    }
    world.roll_back(1);
    for (name, generation) in [("one", 0), ("one", 1), ("two", 0), ("two", 1)] {
        assert_eq!(world.runs(name, generation).0, 1, "`{name}` of generation {generation}");
    }
}
