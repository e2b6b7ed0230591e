//! Shadows: where they are loaded, bound and given up.

use std::{fs, path::Path, time::Instant};

use libtest_mimic::Failed;
use reload_engine::{error::Error, target::link::AgentLink};
use reload_protocol::{LoadedModule, Range, Segment, Write as DataWrite};

use crate::{
    Case, Outcome,
    host::{PATIENCE, Target, check, symbol_of},
};

pub const CASES: &[Case] = &[
    ("lost_owner_leaves_no_shadow", lost_owner_leaves_no_shadow),
    ("shadow_lands_near_library_and_executable", shadow_lands_near),
    ("bind_writes_read_only_data", bind_writes),
];

fn lost_owner_leaves_no_shadow() -> Outcome {
    let mut target = Target::start(&[])?;
    let mut other = AgentLink::connect(target.launched.pid)?;
    std::mem::swap(&mut other, &mut target.link);
    target.link.begin(0)?;
    let near = target.library.start;
    let (module, _) = load_near(&mut target, near, "shadow.so")?;
    check(other.modules()?.contains(&module), "loaded")?;
    std::mem::swap(&mut other, &mut target.link);
    drop(other);
    let deadline = Instant::now() + PATIENCE;
    while target.link.modules()?.contains(&module) {
        check(Instant::now() < deadline, "unloaded with its owner's connection")?;
    }
    Ok(())
}

fn shadow_lands_near() -> Outcome {
    let mut target = Target::start(&["sweep"])?;
    target.link.begin(0)?;
    let executable = target.link.modules()?.remove(0).start;
    for (index, near) in [target.library.start, executable, target.library.start, executable].into_iter().enumerate() {
        let (module, arena) = load_near(&mut target, near, &format!("shadow-{index}.so"))?;
        check(arena.start <= module.start && module.end <= arena.end, "inside the reservation")?;
        check(target.link.modules()?.contains(&module), "in the link map")?;
    }
    let (low, high) = (target.library.start - (1 << 12), target.library.start);
    let path = target.folder.path().join("shadow-0.so");
    let crowded = target.link.load(&path, low..high);
    check(matches!(crowded, Err(Error::Agent(_))), "no room is a clear failure")?;
    let text = target.folder.path().join("text.so");
    fs::write(&text, "not a library")?;
    check(matches!(target.link.load(&text, 0..1 << 47), Err(Error::Agent(_))), "so is a text file")?;
    target.link.end()?;
    check(target.link.modules()?.iter().all(|module| !module.path.contains("shadow-")), "not committed, not kept")?;
    target.sweep()
}

fn bind_writes() -> Outcome {
    let mut target = Target::start(&[])?;
    target.link.begin(0)?;
    let near = target.library.start;
    let (module, _) = load_near(&mut target, near, "shadow.so")?;
    let relro = module.bias + symbol_of(Path::new(&module.path), "relro")?;
    let storage = target.address("storage")?;
    let page = relro & !0xfff;
    let segments = vec![Segment { range: Range { start: page, len: 0x1000 }, protection: 1 }];
    let write = DataWrite { address: relro, bytes: storage.to_le_bytes().to_vec() };
    target.link.bind(segments.clone(), vec![write.clone()])?;
    let read = target.link.read_memory(vec![Range { start: relro, len: 8 }, Range { start: 8, len: 8 }])?;
    check(read == [storage.to_le_bytes().to_vec(), Vec::new()], "written, and unmapped memory reads as nothing")?;
    let mappings = reload_engine::target::maps::read(target.launched.pid)?;
    let mapping = mappings.iter().find(|mapping| (mapping.start.0..mapping.end.0).contains(&relro)).ok_or("mapping")?;
    check(!mapping.writable, "read-only again")?;
    let outside = DataWrite { address: page - 8, ..write.clone() };
    check(target.link.bind(segments, vec![outside]).is_err(), "a write outside the segments is rejected")?;
    let live = Segment { range: Range { start: target.library.start & !0xfff, len: 0x1000 }, protection: 1 };
    check(target.link.bind(vec![live], Vec::new()).is_err(), "a live module is not a shadow")
}

/// A reservation near `module` and a copy of the library loaded into it.
fn load_near(target: &mut Target, near: u64, name: &str) -> Result<(LoadedModule, std::ops::Range<u64>), Failed> {
    let size = 64 << 20;
    let start = target.link.reserve(near, size)?;
    check(start.abs_diff(near) < 1 << 30, "reserved near")?;
    let copy = target.folder.path().join(name);
    fs::copy(&target.library.path, &copy)?;
    let module = target.link.load(&copy, start..start + size)?;
    Ok((module, start..start + size))
}
