//! A target as a session would describe it: real values of the engine's own types.

use std::time::{Duration, SystemTime};

use reload_engine::model::{
    Change, Class, Connection, Details, Failure, FunctionCounts, Generation, HistoryEntry, LoadBias, Mark, Mode,
    Module, Outcome, Receipt, Snapshot, Stage, StaticCounts, Status, Target, Timings,
};

/// When all of this is looked at: pictures show ages and times.
pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_253_400)
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
            module.history.push(entry(name, now - age, Outcome::Reloaded, number, total));
        }
    }
    module
}

fn entry(name: &str, time: SystemTime, outcome: Outcome, generation: u32, total: f64) -> HistoryEntry {
    let mut receipt = Receipt::empty(name, outcome, Generation(generation));
    receipt.timings_ms = Timings {
        read: total * 0.06,
        parse: total * 0.22,
        plan: total * 0.31,
        shadow: total * 0.08,
        load: total * 0.14,
        bind: total * 0.05,
        stage: total * 0.09,
        safe_point: 0.0,
        hooks: 0.0,
        commit: total * 0.05,
        adapt: 0.0,
        pause: total * 0.01,
        total,
    };
    if outcome == Outcome::Reloaded {
        receipt.functions = FunctionCounts { changed: 4, added: 1, removed: 1, unpatchable: 0 };
        receipt.statics = StaticCounts { kept: 31, new: 1, reset: 1, merged: 0 };
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

pub fn failure() -> Failure {
    Failure {
        stage: Stage::Plan,
        message: "libphysics.so: the layout of `physics::World` changed: field `gravity` moved from 16 to 24"
            .to_owned(),
        trace: vec![
            "libphysics.so cannot be reloaded".to_owned(),
            "static `physics::WORLD` holds a `physics::World` made by generation 41".to_owned(),
            "physics::World: field `gravity: f32` moved from offset 16 to 24 (src/world.rs:31)".to_owned(),
            "Move the new field to the end, restart the program, or reload with --force to start `WORLD` anew."
                .to_owned(),
        ],
        mtime: Some(now() - Duration::from_secs(14)),
    }
}

pub fn snapshot() -> Snapshot {
    let mut physics = module("libphysics.so", Status::Failed, Mark::Reload, 41, 14, 1843);
    physics.failure = Some(failure());
    let mut tried = entry("libphysics.so", now() - Duration::from_secs(12), Outcome::Failed, 41, 9.0);
    tried.receipt.failure = Some(failure());
    physics.history.push(tried);
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
    refused.failure = Some(Failure {
        stage: Stage::Validate,
        message: "libsave_format.so: not an x86-64 library".to_owned(),
        trace: vec!["e_machine is 183 (aarch64)".to_owned(), "Build it for x86-64.".to_owned()],
        mtime: None,
    });
    modules.push(refused);
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
