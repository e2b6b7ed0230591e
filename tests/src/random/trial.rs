//! Libraries made up from seeds, reloaded in a live process and compared with the machine: addresses, values, answers and
//! receipts.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::Command,
};

use serde_json::Value as Json;

use super::{
    author::Author,
    machine::{Expected, Machine, THREADS, Value},
    source::{Element, Function, Step, Storage, UNITS},
};
use crate::{
    dashboard::{Launched, Room},
    deadline,
    greek::host,
    install, toolchain,
};

/// Versions of a library after the first: so many pairs it gives.
const RELOADS: u32 = 3;

/// Reasons that the user is told where what the source means cannot be found out.
const DOUBTS: [&str; 4] = [
    "takes an address that is both",
    "takes an address that may mean",
    "several statics are called",
    "uses thread-locals that stay and thread-locals that are new",
];

/// What has been tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub pairs: u32,
    pub reloaded: u32,
    /// Nothing that a program could notice had changed.
    pub unchanged: u32,
    /// Refused as it must be: a static changed its type.
    pub retyped: u32,
    /// Refused for a doubt.
    pub doubted: u32,
    /// Reloads after which some function could not be redirected.
    pub unpatchable: u32,
}

/// Reloads the libraries of all these seeds in one process, each through all of its versions, and adds what differed to
/// `differences`, each with its seed. A library that was wrong is not followed further.
pub fn run(seeds: Range<u64>, differences: &mut Vec<String>) -> Tally {
    let room = Room::new();
    let mut target = room.launch(&host(&room, "model"), &[]);
    let mut tally = Tally::default();
    let mut trials: Vec<Trial> = seeds.enumerate().map(|(index, seed)| Trial::new(seed, index, &room)).collect();
    each(&mut trials, differences, |trial| trial.open(&mut target));
    let Some(last) = trials.last().map(|trial| trial.file_name.clone()) else { return tally };
    deadline::wait_for("the libraries in `list`", || {
        let list = target.list();
        list["modules"].as_array()?.iter().any(|module| module["name"] == *last).then_some(())
    });
    for _ in 0..RELOADS {
        each(&mut trials, differences, |trial| {
            trial.mutate(&mut target)?;
            trial.author.edit();
            trial.build();
            install::by_rename(&trial.built, &trial.installed);
            Ok(())
        });
        if trials.is_empty() {
            return tally;
        }
        let names: Vec<&str> = trials.iter().map(|trial| trial.file_name.as_str()).collect();
        let receipts: BTreeMap<String, Json> = target
            .reload(&names)
            .into_iter()
            .map(|receipt| (receipt["name"].as_str().unwrap_or_default().to_owned(), receipt))
            .collect();
        each(&mut trials, differences, |trial| {
            let receipt = receipts.get(&trial.file_name).ok_or("no receipt")?;
            let judged = trial.judge(receipt, &mut tally).and_then(|()| trial.verify(&mut target));
            judged.map_err(|difference| format!("{difference}\n{receipt:#}"))
        });
    }
    if !trials.is_empty() && target.finish() != Some(0) {
        differences.push("the program did not end well".to_owned());
    }
    tally
}

/// Does it with every trial; those that went wrong are told of and dropped. All are when the process has ended.
fn each(
    trials: &mut Vec<Trial>,
    differences: &mut Vec<String>,
    mut step: impl FnMut(&mut Trial) -> Result<(), String>,
) {
    let mut ended = false;
    trials.retain_mut(|trial| {
        if ended {
            return false;
        }
        let difference = match catch_unwind(AssertUnwindSafe(|| step(trial))) {
            Ok(Ok(())) => return true,
            Ok(Err(difference)) => difference,
            Err(_) => {
                ended = true;
                "the program ended or fell silent, as the message above says".to_owned()
            }
        };
        differences.push(trial.describe(&difference));
        false
    });
    if ended {
        trials.clear();
    }
}

struct Trial {
    seed: u64,
    index: usize,
    folder: PathBuf,
    file_name: String,
    built: PathBuf,
    installed: PathBuf,
    flags: Vec<String>,
    types_known: bool,
    author: Author,
    machine: Machine,
    /// All entries lead to the newest code.
    redirected: bool,
}

/// A call that the host makes, and what it must answer.
struct Call {
    name: String,
    address: u64,
    x: u64,
    y: u64,
    expected: Option<u64>,
}

impl Trial {
    fn new(seed: u64, index: usize, room: &Room) -> Trial {
        let mut author = Author::new(seed);
        let folder = room.path().join(format!("random-{index}"));
        fs::create_dir(&folder).expect("the room is ours");
        let file_name = format!("librandom{index}.so");
        let rng = author.rng();
        let mut flags = vec![["-O0", "-O0", "-O1", "-O2", "-O2", "-Os"][rng.usize(..6)].to_owned()];
        let types_known = rng.u8(..4) == 0;
        flags.push(if types_known { "-g" } else { "-g0" }.to_owned());
        for (one_in, flag) in [
            (4, "-fdata-sections"),
            (4, "-ffunction-sections"),
            (6, "-mtls-dialect=gnu2"),
            (6, "-fvisibility=hidden"),
            (6, "-fno-plt"),
            (6, "-Wl,-Bsymbolic"),
            (6, "-fno-zero-initialized-in-bss"),
            (8, "-fcf-protection"),
            (8, "-Wl,-z,now"),
            (4, "-fuse-ld=gold"),
        ] {
            if rng.u8(..one_in) == 0 {
                flags.push(flag.to_owned());
            }
        }
        Trial {
            seed,
            index,
            built: folder.join(&file_name),
            installed: room.path().join(&file_name),
            folder,
            file_name,
            flags,
            types_known,
            machine: Machine::start(author.source.clone()),
            author,
            redirected: true,
        }
    }

    /// A difference with all it takes to look into it.
    fn describe(&self, difference: &str) -> String {
        let texts: Vec<String> = (0..UNITS)
            .filter(|unit| self.author.source.has_unit(*unit))
            .flat_map(|unit| {
                let texts = [("running", self.machine.current()), ("new", &self.author.source)];
                texts.map(|(which, source)| format!("// {which}, file {unit}\n{}", source.render(unit)))
            })
            .collect();
        let (seed, flags) = (self.seed, self.flags.join(" "));
        format!("seed {seed}: {difference}\n{}\ngcc {flags}", texts.join("\n"))
    }

    fn open(&mut self, target: &mut Launched<'_>) -> Result<(), String> {
        self.build();
        install::by_rename(&self.built, &self.installed);
        let answer = target.ask(&format!("open {} {}", self.index, self.installed.display()));
        if answer != "ok" {
            return Err(answer);
        }
        self.verify(target)
    }

    fn build(&self) {
        let source = &self.author.source;
        let mut command = Command::new("gcc");
        command.args(["-shared", "-fPIC", "-w", "-pipe", "-fno-strict-aliasing", "-fno-delete-null-pointer-checks"]);
        command.args(&self.flags).arg("-o").arg(&self.file_name).current_dir(&self.folder);
        for unit in (0..UNITS).filter(|unit| source.has_unit(*unit)) {
            let name = format!("{unit}.c");
            fs::write(self.folder.join(&name), source.render(unit)).expect("the room is ours");
            command.arg(name);
        }
        toolchain::run(&mut command);
    }

    /// Writes to some of the library's statics, so that others stay untouched.
    fn mutate(&mut self, target: &mut Launched<'_>) -> Result<(), String> {
        let functions: Vec<Function> = self.machine.current().functions.clone();
        let mut calls: [Vec<Call>; THREADS] = Default::default();
        for function in functions {
            let name = &function.name;
            for step in &function.steps {
                let (Step::Poke(of) | Step::Own(of)) = step else { continue };
                if self.author.rng().bool() {
                    continue;
                }
                let it = self.machine.seen_by(&function, of).clone();
                for _ in 0..self.author.rng().usize(1..4) {
                    let index = self.author.rng().usize(..it.cells.len());
                    let x = if matches!(step, Step::Own(_)) { index + 1 } else { index } as u64;
                    let y = if it.element.is_number() {
                        self.author.rng().u64(..)
                    } else {
                        let value = self.some_value(it.element);
                        let Some(word) = self.machine.word(&value) else { continue };
                        self.machine.aim(&function, of, index, value);
                        word
                    };
                    let thread =
                        if it.storage == Storage::ThreadLocal { self.author.rng().usize(..THREADS) } else { 0 };
                    let expected = self.machine.call(name, x, y, thread);
                    let address = self.machine.entries[name];
                    calls[thread].push(Call { name: name.clone(), address, x, y, expected });
                }
            }
        }
        self.compare(target, &calls)
    }

    /// Something else that a pointer may be set to.
    fn some_value(&mut self, element: Element) -> Value {
        match element {
            Element::Pointer => {
                let targets = self.machine.targets();
                match self.author.rng().choice(targets) {
                    Some((place, size)) => {
                        let offset = self.author.rng().usize(..size / 8) * 8;
                        Value::Into { place, offset }
                    }
                    None => Value::Null,
                }
            }
            Element::Code => {
                let leafs = self.machine.current().functions.iter().filter(|function| function.leaf);
                let leafs: Vec<String> = leafs.map(|function| function.name.clone()).collect();
                self.author.rng().choice(leafs).map_or(Value::Null, Value::Function)
            }
            _ => Value::Null,
        }
    }

    /// Takes the receipt's word for whether there is a new generation, if that may be, and compares the rest of it.
    fn judge(&mut self, receipt: &Json, tally: &mut Tally) -> Result<(), String> {
        let source = self.author.source.clone();
        let expected = self.machine.expect(&source);
        tally.pairs += 1;
        let must_refuse = self.types_known && !expected.retyped.is_empty();
        match receipt["outcome"].as_str().unwrap_or_default() {
            "reloaded" if must_refuse => return Err(format!("reloaded though {:?} changed type", expected.retyped)),
            "reloaded" => {}
            "refused" => {
                let reasons = receipt["failure"].to_string();
                if must_refuse && reasons.contains("changed") {
                    tally.retyped += 1;
                } else if DOUBTS.iter().any(|doubt| reasons.contains(doubt)) {
                    tally.doubted += 1;
                } else {
                    return Err("refused without need".into());
                }
                return Ok(());
            }
            "unchanged" => {
                let Expected { new, reset, merged, added, removed, changed, .. } = expected;
                tally.unchanged += 1;
                return if [new, reset, merged, added, removed, changed] == [0; 6] {
                    Ok(())
                } else {
                    Err(format!("called unchanged, but {expected:?}"))
                };
            }
            other => return Err(format!("the outcome is `{other}`")),
        }
        tally.reloaded += 1;
        let count = |path: &str| receipt.pointer(path).and_then(Json::as_u64).unwrap_or(u64::MAX) as usize;
        // `completed.0` of gcc's start-up code is a static as well.
        let own = 1;
        for (path, wanted) in [
            ("/statics/kept", expected.kept + own),
            ("/statics/new", expected.new),
            ("/statics/reset", expected.reset),
            ("/statics/merged", expected.merged),
            ("/functions/added", expected.added),
            ("/functions/removed", expected.removed),
        ] {
            if count(path) != wanted {
                return Err(format!("{path} is {}, not {wanted}: {expected:?}", count(path)));
            }
        }
        if count("/functions/changed") < expected.changed {
            return Err(format!("{} functions changed, no less", expected.changed));
        }
        let warnings: Vec<&str> =
            receipt["warnings"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        let told = warnings.iter().filter(|warning| warning.contains("has a new initial value")).count();
        if told != expected.both_changed.len() {
            return Err(format!("{told} warnings of values changed on both sides, not {:?}", expected.both_changed));
        }
        if count("/functions/unpatchable") > 0 {
            tally.unpatchable += 1;
            self.redirected = false;
        }
        self.machine.reload(source, expected);
        Ok(())
    }

    /// Compares everything that can be observed with the machine.
    fn verify(&mut self, target: &mut Launched<'_>) -> Result<(), String> {
        let found = self.find(target)?;
        let mut calls: [Vec<Call>; THREADS] = Default::default();
        let functions: Vec<Function> = self.machine.functions().into_iter().cloned().collect();
        for function in functions {
            let name = &function.name;
            let gone = !found.contains_key(name);
            // What a removed function has inlined can no longer be replaced.
            let calls_others = function.steps.iter().any(|step| matches!(step, Step::Call(_)));
            if gone && (!self.redirected || (self.author.source.inlining && calls_others)) {
                continue;
            }
            let entry = self.machine.entries[name];
            let mut addresses = vec![*found.get(name).unwrap_or(&entry)];
            if self.redirected && addresses[0] != entry {
                addresses.push(entry);
            }
            for address in addresses {
                self.arguments(&function, |machine, x, y, thread| {
                    let expected = machine.call(name, x, y, thread);
                    calls[thread].push(Call { name: name.clone(), address, x, y, expected });
                });
            }
        }
        self.compare(target, &calls)
    }

    /// Arguments to call a function with that make it tell all it can, and change nothing.
    fn arguments(&mut self, function: &Function, mut call: impl FnMut(&mut Machine, u64, u64, usize)) {
        let thread_local = function.steps.iter().any(|step| {
            let (Step::Element(name, _) | Step::Walk(name, _) | Step::Peek(name)) = step else { return false };
            self.machine.seen_by(function, name).storage == Storage::ThreadLocal
        });
        let threads = if thread_local { THREADS } else { 1 };
        for thread in 0..threads {
            match function.steps.first() {
                Some(Step::Poke(_)) => {}
                Some(Step::Peek(name)) => {
                    for index in 0..self.machine.seen_by(function, name).cells.len() as u64 {
                        call(&mut self.machine, index, 0, thread);
                    }
                }
                _ => {
                    let y = self.author.rng().u64(..9);
                    call(&mut self.machine, 0, y, thread);
                }
            }
        }
    }

    /// Where everything lies; what has been found before must not have moved.
    fn find(&mut self, target: &mut Launched<'_>) -> Result<BTreeMap<String, u64>, String> {
        let source = self.machine.current().clone();
        let functions = source.functions.iter().map(|function| function.id);
        let statics: Vec<_> = source.statics.iter().filter(|it| it.has_address()).collect();
        let ids: Vec<String> =
            functions.chain(statics.iter().map(|it| it.address_id())).map(|id| id.to_string()).collect();
        let answer = target.ask(&format!("find {} {}", self.index, ids.join(" ")));
        let addresses = numbers(&answer);
        if addresses.len() != ids.len() {
            return Err(format!("{} addresses for {} names", addresses.len(), ids.len()));
        }
        let mut found = BTreeMap::new();
        for (function, address) in source.functions.iter().zip(&addresses) {
            let name = &function.name;
            let entry = *self.machine.entries.entry(name.clone()).or_insert(*address);
            if entry != *address && self.redirected {
                return Err(format!("`{name}` was at {entry:#x} and is at {address:#x}"));
            }
            found.insert(name.clone(), *address);
        }
        for (it, address) in statics.iter().zip(&addresses[source.functions.len()..]) {
            let place = self.machine.place_of(it);
            if let Err(known) = self.machine.lies_at(place, *address) {
                return Err(format!("`{}` was at {known:#x} and is at {address:#x}", it.name));
            }
        }
        self.machine.places_apart()?;
        Ok(found)
    }

    fn compare(&self, target: &mut Launched<'_>, calls: &[Vec<Call>; THREADS]) -> Result<(), String> {
        for (thread, calls) in calls.iter().enumerate() {
            for calls in calls.chunks(500) {
                let words: Vec<String> =
                    calls.iter().map(|call| format!("{:#x} {:#x} {:#x}", call.address, call.x, call.y)).collect();
                let answers = numbers(&target.ask(&format!("call {thread} {}", words.join(" "))));
                if answers.len() != calls.len() {
                    return Err(format!("{} answers to {} calls", answers.len(), calls.len()));
                }
                for (call, answer) in calls.iter().zip(answers) {
                    if let Some(expected) = call.expected.filter(|expected| *expected != answer) {
                        let Call { name, address, x, y, .. } = call;
                        return Err(format!(
                            "`{name}`({x}, {y:#x}) at {address:#x} on thread {thread} answers {answer:#x}, not {expected:#x}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

fn numbers(answer: &str) -> Vec<u64> {
    let hexadecimal = |word: &str| u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).ok();
    answer.split_whitespace().filter_map(hexadecimal).collect()
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.pairs += other.pairs;
        self.reloaded += other.reloaded;
        self.unchanged += other.unchanged;
        self.retyped += other.retyped;
        self.doubted += other.doubted;
        self.unpatchable += other.unpatchable;
    }
}
