//! Shielding: a project's modules are made independent of their files on disk as soon as there is a copy of each.
//!
//! How it is done is the agent's business; that it cannot be done is no failure, but told. Of a program only the first mapping
//! is exchanged, and only for its name.

use std::{collections::HashMap, fs, os::unix::fs::MetadataExt, path::PathBuf};

use memchr::memmem;
use reload_protocol::{File, Range, Replacement, Segment};

use super::{Event, modules::Tracked, originals, worker::Worker};
use crate::{
    error::{Error, Result},
    ledger::GenerationRecord,
    model::{Addr, Class, LoadBias, Mark, Shield, file_name},
    plan::homes::BACKTRACE_CACHE,
    target::maps::{self, Mapping},
};

/// Modules in one go; the others' turn comes with the next listing. Their files may have to go along with one message.
const AT_ONCE: usize = 150;
/// Listings in which a module's shield is tried.
const ATTEMPTS: u32 = 3;

impl Worker {
    /// Shields every module that is worth it and is not yet; `places` are the modules of the link map, by their biases.
    pub fn shield(&mut self, places: &HashMap<LoadBias, (Addr, Addr)>, mappings: &[Mapping]) {
        if !self.record.ledger.wishes.shield || self.record.ledger.detached {
            return;
        }
        let mut replacements = Vec::new();
        let mut covered = Vec::new();
        for index in 0..self.modules.len() {
            let module = &self.modules[index];
            if covered.len() == AT_ONCE || module.shield_attempts == ATTEMPTS || !self.is_worth_a_shield(module) {
                continue;
            }
            self.modules[index].shield_attempts += 1;
            let module = &self.modules[index];
            let place = places.get(&module.bias);
            let own = place.map_or_else(Vec::new, |(start, end)| self.replacements(module, *start, *end, mappings));
            if own.is_empty() {
                self.modules[index].shield_attempts = ATTEMPTS;
            } else {
                let bytes = own.iter().map(|replacement| replacement.segment.range.len).sum::<u64>();
                covered.push((module.path.clone(), bytes));
                replacements.extend(own);
            }
        }
        if replacements.is_empty() {
            return;
        }
        match self.engine.shield(&mut self.link, self.record.revision, replacements) {
            Ok((revision, ms, pause_ms)) => {
                self.shielded(&covered);
                self.record.revision = revision;
                let noted = self.record.change(&mut self.link, |ledger| {
                    for (path, bytes) in &covered {
                        if let Some(module) = ledger.module_mut(path) {
                            module.shield = Some(Shield { bytes: *bytes, ms, pause_ms });
                        }
                    }
                });
                if let Err(error) = noted {
                    tracing::debug!("what the shield cost was not noted: {error}");
                }
                for (path, bytes) in covered {
                    let shield = Shield { bytes, ms, pause_ms };
                    self.tell(Event::Shielded { module: file_name(&path), shield });
                }
            }
            // Another controller may be at it, or the loader in the middle of loading: the next listing tries again.
            Err(error) if self.may_try_again(&covered) => tracing::debug!("not shielded yet: {error}"),
            Err(error) => {
                let names: Vec<String> = covered.iter().map(|(path, _)| file_name(path)).collect();
                let message = format!(
                    "{}: not shielded, so that overwriting the file in place would end the program: {error}",
                    names.join(", ")
                );
                self.tell(Event::Notice { message });
            }
        }
    }

    /// Before a program is reloaded for the first time: Rust's backtraces open it under the name that `/proc/self/maps` has for
    /// the mapping of its header, and a build has taken the file from that name. So a copy in the store is mapped there.
    /// Without, old functions have no names in a backtrace, and nothing else is worse.
    pub fn keep_program_findable(&mut self, index: usize) {
        if self.program_to_copy(index).is_none() || self.modules[index].shield_attempts >= ATTEMPTS {
            return;
        }
        self.modules[index].shield_attempts += 1;
        if let Err(error) = self.map_header_from_copy(index) {
            tracing::debug!("backtraces will not find the program's own file: {error}");
        }
    }

    fn map_header_from_copy(&mut self, index: usize) -> Result<()> {
        let Some((inode, copy)) = self.copy_of_program(index)? else { return Ok(()) };
        let bias = self.modules[index].bias.0;
        let is_header = |mapping: &&Mapping| {
            let of_program = mapping.file.as_ref().is_some_and(|file| file.inode == inode);
            of_program && mapping.start.0 == bias && mapping.offset == 0 && mapping.readable
        };
        let mappings = maps::read(self.pid)?;
        // Not where another dashboard has done so.
        let Some(header) = mappings.iter().find(is_header).filter(|header| !header.writable) else { return Ok(()) };
        let Some(replacement) = copy.to_str().map(|copy| replacement(header, copy)) else { return Ok(()) };
        let (revision, ..) = self.engine.shield(&mut self.link, self.record.revision, vec![replacement])?;
        self.record.revision = revision;
        Ok(())
    }

    /// The inode of the file that the program began with, and where a copy of it lies in the store, made by the first who asks;
    /// `None` where nobody would look for it.
    ///
    /// # Errors
    /// [`Error::File`]: the program cannot be read, or the copy not be written.
    pub fn copy_of_program(&self, index: usize) -> Result<Option<(u64, PathBuf)>> {
        let Some(record) = self.program_to_copy(index) else { return Ok(None) };
        let unreadable = |source| Error::File { path: record.file.clone(), doing: "reading the program", source };
        let running = fs::metadata(&record.file).map_err(unreadable)?;
        let (inode, seconds, nanoseconds) = (running.ino(), running.mtime(), running.mtime_nsec());
        // A process may go over to another build of its program and stay the same process (`execve(2)`).
        let builds = self.folder.originals()?.join("program");
        let build = builds.join(format!("{inode}-{seconds}.{nanoseconds}"));
        let copy = build.join(file_name(&self.modules[index].path));
        if !copy.exists() {
            let program = fs::read(&record.file).map_err(unreadable)?;
            if memmem::find(&program, BACKTRACE_CACHE.as_bytes()).is_none() {
                return Ok(None);
            }
            originals::write_copy(&copy, &program)?;
            // Of those before nothing runs any more.
            let before = fs::read_dir(&builds).into_iter().flatten().flatten().map(|entry| entry.path());
            for before in before.filter(|folder| *folder != build) {
                let _ = fs::remove_dir_all(before);
            }
        }
        Ok(Some((inode, copy)))
    }

    /// What is known of the file of a program that has not been reloaded yet and may be shielded.
    fn program_to_copy(&self, index: usize) -> Option<&GenerationRecord> {
        let module = &self.modules[index];
        let generations = &self.record.module(&module.path)?.generations;
        let wanted = module.class == Class::Executable && self.record.ledger.wishes.shield;
        generations.first().filter(|_| wanted && generations.len() == 1).map(|record| &**record)
    }

    fn shielded(&mut self, covered: &[(PathBuf, u64)]) {
        for module in self.modules.iter_mut().filter(|module| covered.iter().any(|(path, _)| *path == module.path)) {
            module.shield_attempts = ATTEMPTS;
        }
    }

    fn may_try_again(&self, covered: &[(PathBuf, u64)]) -> bool {
        let tried = |module: &Tracked| covered.iter().any(|(path, _)| *path == module.path);
        self.modules.iter().filter(|module| tried(module)).all(|module| module.shield_attempts < ATTEMPTS)
    }

    fn is_worth_a_shield(&self, module: &Tracked) -> bool {
        let Some(ledger) = self.record.module(&module.path) else { return false };
        // Nobody can write to the file of a running program (ETXTBSY).
        !ledger.generations.is_empty()
            && (module.class == Class::Project || (module.class == Class::System && ledger.mark == Mark::Reload))
    }

    /// What of the module is mapped from the very file that its copy was made of.
    fn replacements(&self, module: &Tracked, start: Addr, end: Addr, mappings: &[Mapping]) -> Vec<Replacement> {
        let record = self.record.module(&module.path).and_then(|ledger| ledger.generations.first());
        let Some((record, copy)) = record.and_then(|record| Some((record, record.file.to_str()?))) else {
            return Vec::new();
        };
        let of_module = |mapping: &&Mapping| {
            let file = mapping.file.as_ref();
            mapping.start >= start
                && mapping.readable
                && file.is_some_and(|file| file.inode == record.stamp.inode && file.path != record.file)
        };
        let own = maps::within(mappings, start, end).iter();
        own.filter(of_module).map(|mapping| replacement(mapping, copy)).collect()
    }
}

/// The same part of the copy in this mapping's place.
fn replacement(mapping: &Mapping, copy: &str) -> Replacement {
    let bits = [(mapping.readable, 1), (mapping.writable, 2), (mapping.executable, 4)];
    let range = Range { start: mapping.start.0, len: mapping.end.0 - mapping.start.0 };
    let protection = bits.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum();
    let inode = mapping.file.as_ref().map_or(0, |file| file.inode);
    let file = File::Path(copy.to_owned());
    Replacement { segment: Segment { range, protection }, inode, file, offset: mapping.offset }
}
