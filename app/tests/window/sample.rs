//! A target as a session would describe it: real values of the engine's own types.

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, SystemTime},
};

use reload_engine::model::{
    Change, Class, Connection, Details, Failure, FunctionCounts, Generation, HistoryEntry, LoadBias, Mark, Mode,
    Module, Outcome, Receipt, Snapshot, Stage, StaticCounts, Status, Target, Timings,
};

thread_local! {
    /// How much later than at its beginning this test is.
    static LATER: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// When all of this is looked at: pictures show ages and times.
pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_253_400) + LATER.get()
}

/// Lets time pass for the window of this test.
pub fn wait(time: Duration) {
    LATER.set(LATER.get() + time);
}

pub fn path(name: &str) -> String {
    format!("/home/ada/aurora/build/plugins/{name}")
}

pub fn module(name: &str, status: Status, mark: Mark, generation: u32, age: u64, kib: u64) -> Module {
    let now = now();
    let reloaded = status != Status::Skipped && generation > 0;
    let mut module = Module {
        name: name.to_owned(),
        path: path(name).into(),
        mtime: (status != Status::Missing).then(|| now - Duration::from_secs(age)),
        size: (status != Status::Missing).then_some(kib * 1024 + 37),
        class: Class::Project,
        mark,
        status,
        differs: matches!(status, Status::Changed | Status::Refused | Status::Failed),
        generation: Generation(generation),
        last_ms: reloaded.then_some(18.0 + (kib % 53) as f64),
        failure: None,
        shield: None,
        history: Vec::new(),
        generations: (0..=generation).map(Generation).collect(),
        soname: Some(format!("{name}.1")),
        bias: LoadBias(0x7f21_4c00_0000 + kib * 4096),
    };
    if reloaded {
        let count = generation.min(6);
        for n in 0..count {
            let number = generation - (count - 1 - n);
            let age = Duration::from_secs(age + u64::from(count - 1 - n) * 340);
            let total = 18.0 + f64::from((number * 7 + kib as u32) % 41);
            module.history.push(entry(name, now - age, Outcome::Reloaded, number, total).into());
        }
    }
    module
}

fn entry(name: &str, time: SystemTime, outcome: Outcome, generation: u32, total: f64) -> HistoryEntry {
    let mut receipt = Receipt::empty(name, outcome, Generation(generation));
    // What was refused got no further than the plan, what failed to load no further than that.
    let past = |stage: Stage, ms: f64| match outcome {
        Outcome::Refused if stage > Stage::Plan => 0.0,
        Outcome::Failed if stage > Stage::Load => 0.0,
        _ => ms,
    };
    receipt.timings_ms = Timings {
        read: total * 0.06,
        parse: total * 0.22,
        plan: total * 0.31,
        shadow: past(Stage::Shadow, total * 0.08),
        load: past(Stage::Load, total * 0.14),
        bind: past(Stage::Bind, total * 0.05),
        stage: past(Stage::Stop, total * 0.09),
        commit: past(Stage::Commit, total * 0.05),
        pause: past(Stage::Commit, total * 0.01),
        total,
        ..Timings::default()
    };
    if outcome == Outcome::Reloaded {
        receipt.functions = FunctionCounts { changed: 4, added: 1, removed: 1, unpatchable: 0 };
        receipt.statics = StaticCounts { kept: 31, new: 1, reset: 1, ..StaticCounts::default() };
        receipt.details = Details {
            changed: vec![
                "physics::World::step(&mut self, dt: f32)".to_owned(),
                "physics::World::rebuild_broadphase(&mut self)".to_owned(),
                "<physics::Island as core::ops::Drop>::drop".to_owned(),
                "physics::contact::resolve(&[Contact], &mut [Body]) -> usize".to_owned(),
            ],
            added: vec!["physics::contact::warm_start".to_owned()],
            removed: vec!["physics::contact::cold_start".to_owned()],
            new_statics: vec!["physics::contact::CACHE".to_owned()],
            reset_statics: vec!["physics::SCRATCH (4096 → 8192 bytes)".to_owned()],
            retained_bytes: 96 * 1024,
            stop: "ptrace".to_owned(),
            ..Details::default()
        };
    }
    HistoryEntry { time, what: Change::Reload, receipt }
}

/// What the loader says no to, in the words of the engine.
pub fn failure() -> Failure {
    let message = format!(
        "{}: /run/user/1000/reload-dashboard/48213/shadows/42/libphysics.so: undefined symbol: world_gravity",
        path("libphysics.so")
    );
    Failure {
        stage: Stage::Load,
        message: message.clone(),
        trace: vec![
            message,
            "generation 41 of libphysics.so is still running, untouched".to_owned(),
            "link what is missing and build again; it is tried again when it changes".to_owned(),
        ],
        mtime: Some(now() - Duration::from_secs(14)),
    }
}

/// A changed layout, in the words of the engine.
pub fn refusal() -> Failure {
    let message = "libsave_format.so: `save::Header` (header.hpp:31): field `checksum` moved from offset 16 to 24, \
                   field `flags` is new, size changed from 24 to 32 bytes";
    Failure {
        stage: Stage::Plan,
        message: message.to_owned(),
        trace: vec![
            message.to_owned(),
            "`std::vector<save::Header>` (stl_vector.h:423): its layout changed".to_owned(),
            "the static `save::LAST` changed from `int` to `unsigned` at the same size".to_owned(),
            "generation 3 of libsave_format.so is still running, untouched".to_owned(),
            "change the code so that this holds, restart the target, or override with --force".to_owned(),
        ],
        mtime: Some(now() - Duration::from_secs(95)),
    }
}

/// Has the last change of `libecs.so` taken back by its hook, in the words of the engine.
pub fn put_back(snapshot: &mut Snapshot) {
    let module = snapshot.modules.iter_mut().find(|module| module.name == "libecs.so").expect("of the sample");
    let message = "libecs.so: `superreload_after` returned 1 for generation 24";
    let failure = Failure {
        stage: Stage::Hook,
        message: message.to_owned(),
        trace: vec![
            message.to_owned(),
            "the new generation ran for a moment, and generation 23 was put back".to_owned(),
            "generation 23 of libecs.so is still running, untouched".to_owned(),
            "the library's own hook says no: see to what it checks, then try again".to_owned(),
        ],
        mtime: module.mtime,
    };
    let mut tried = entry("libecs.so", now() - Duration::from_secs(248), Outcome::Refused, 23, 61.0);
    tried.receipt.failure = Some(failure.clone());
    module.history.push(tried.into());
    (module.status, module.failure) = (Status::Refused, Some(failure));
}

pub fn snapshot() -> Snapshot {
    let mut physics = module("libphysics.so", Status::Failed, Mark::Reload, 41, 14, 1843);
    physics.failure = Some(failure());
    let mut tried = entry("libphysics.so", now() - Duration::from_secs(12), Outcome::Failed, 41, 9.0);
    tried.receipt.failure = Some(failure());
    physics.history.push(tried.into());
    let mut modules = vec![
        physics,
        module("libai_planner.so", Status::Changed, Mark::Reload, 17, 3, 912),
        module("librender_passes.so", Status::Reloading, Mark::Reload, 88, 2, 4505),
        module("libaudio_graph.so", Status::Current, Mark::Reload, 9, 47, 696),
        module("libui_widgets.so", Status::Current, Mark::Reload, 31, 71, 832),
        module("libecs.so", Status::Current, Mark::Reload, 23, 250, 1126),
        module("libscripting.so", Status::Current, Mark::None, 5, 560, 2355),
        module("libterrain_stream.so", Status::Current, Mark::None, 14, 610, 1536),
        module("libweather.so", Status::Current, Mark::None, 4, 1330, 360),
        module("libcore_math.so", Status::Current, Mark::None, 2, 3700, 280),
        module("libquest_db.so", Status::Current, Mark::None, 0, 7300, 428),
        module("libnetcode.so", Status::Skipped, Mark::Skip, 1, 87_000, 1000),
        module("libtelemetry.so", Status::Skipped, Mark::Skip, 0, 5_200_000, 6144),
        module("libanim_blend.so", Status::Missing, Mark::None, 6, 18, 512),
    ];
    let mut refused = module("libsave_format.so", Status::Refused, Mark::None, 3, 95, 220);
    refused.failure = Some(refusal());
    let mut tried = entry("libsave_format.so", now() - Duration::from_secs(93), Outcome::Refused, 3, 21.0);
    tried.receipt.failure = Some(refusal());
    refused.history.push(tried.into());
    modules.push(refused);
    let weather = modules.iter_mut().find(|module| module.name == "libweather.so").expect("listed above");
    let unchecked = "layouts unchecked: libweather.so has no type information; build with -g (Rust: debug = 2)";
    let last = weather.history.last_mut().map(Arc::make_mut);
    last.expect("it was reloaded").receipt.warnings.push(unchecked.to_owned());
    let mut executable = module("aurora", Status::Current, Mark::None, 0, 9000, 14_000);
    executable.class = Class::Executable;
    executable.path = "/home/ada/aurora/build/aurora".into();
    modules.push(executable);
    for (name, class) in [
        ("libc.so.6", Class::Protected),
        ("ld-linux-x86-64.so.2", Class::Protected),
        ("libm.so.6", Class::System),
        ("libstdc++.so.6", Class::System),
        ("libgcc_s.so.1", Class::System),
    ] {
        let mut system = module(name, Status::Skipped, Mark::None, 0, 9_000_000, 2000);
        system.class = class;
        system.path = format!("/usr/lib/x86_64-linux-gnu/{name}").into();
        modules.push(system);
    }
    Snapshot {
        target: Target { pid: 48213, name: "aurora".to_owned(), exe: "/home/ada/aurora/build/aurora".into() },
        mode: Mode::Marked,
        modules,
        revision: 1,
        connection: Connection::Attached,
        watched_directories: 9,
    }
}
