//! One reload from a complete file to a published generation, and the way back.
//!
//! Everything that may fail, allocate or wait comes before the stop; until the agent has written the entries the target
//! runs the old generation, whole. Knows nothing of when to reload and of history: that is policy, and the session's work.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use reload_protocol::{Part, Range, Replacement, Segment, Transaction};
use tracing::{debug, info};

use crate::{
    error::{Error, Result},
    image::demangle,
    ledger::{GenerationRecord, Ledger, ModuleLedger, Rejected, parts},
    memory,
    model::{Details, FileStamp, Generation, LoadBias, Outcome, Receipt, Stage, Timings, file_name},
    plan::{
        Objections,
        entries::{Transition, transition},
        lineage::{Instance, Lineage},
        registration,
    },
    progress::Progress,
    target::{
        link::AgentLink,
        stop::{self, StopHelper},
    },
};

mod attempt;
mod draft;
mod elsewhere;
mod held;
mod participation;
mod python;
mod replay;
mod shadow_file;

use attempt::Attempt;
use draft::{Draft, next_number};
use elsewhere::Elsewhere;
use participation::Hook;
use shadow_file::Spare;

/// A complete file, ready to be tried.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub path: PathBuf,
    pub bytes: Arc<Vec<u8>>,
    pub stamp: FileStamp,
    /// As [`content_hash`](crate::watcher::content_hash) of `bytes`.
    pub content: String,
}

/// What a reload or rollback led to. The ledger is the one the agent holds now, under `revision`.
#[derive(Debug)]
pub struct Reloaded {
    pub receipt: Receipt,
    pub ledger: Ledger,
    pub revision: u64,
    /// What another version's bytes took, for the next.
    pub freed: Option<Vec<u8>>,
}

/// Reloads modules of one process; keeps their analysed generations.
#[derive(Debug)]
pub struct Engine {
    pub progress: Progress,
    shadows: PathBuf,
    lineages: HashMap<PathBuf, Analysed>,
    /// Of what may become the files of modules, by module.
    drafts: HashMap<PathBuf, Draft>,
    elsewhere: Elsewhere,
    /// Started ahead of time: its start-up is no part of a reload.
    helper: Option<StopHelper>,
    /// How many functions the largest file has that memory is to be at hand for.
    memory_for: Option<usize>,
}

impl Engine {
    /// Shadows are written into `shadows`, a folder of the target's store; `progress` is told of each stage.
    pub fn new(shadows: PathBuf, progress: Progress) -> Self {
        Engine {
            progress,
            shadows,
            lineages: HashMap::new(),
            drafts: HashMap::new(),
            elsewhere: Elsewhere::default(),
            helper: None,
            memory_for: None,
        }
    }

    /// Reads and analyses the generations of `module`, so that its first reload does not have to.
    ///
    /// # Errors
    /// A generation's file cannot be read or is not a library.
    pub fn prepare(&mut self, link: &mut AgentLink, module: &Path, ledger: &ModuleLedger) -> Result<()> {
        if self.helper.is_none() {
            self.helper = Some(StopHelper::spawn()?);
        }
        let _underway = self.progress.begin(&file_name(module), true);
        self.elsewhere.prepare(ledger);
        let lineage = self.lineage(link, module, ledger)?;
        if let Some(active) = lineage.index_of(ledger.active) {
            lineage.revive(active)?;
            let image = &lineage.placed(active).image;
            image.make_ready();
            let functions = image.functions.len();
            self.memory_for = self.memory_for.max(Some(functions));
        }
        Ok(())
    }

    /// Whether [`Engine::ready_memory`] has something to do.
    pub fn wants_memory(&self) -> bool {
        self.memory_for.is_some()
    }

    /// Has memory at hand for the next reload; for when nothing else is to be done.
    pub fn ready_memory(&mut self) {
        if let Some(functions) = self.memory_for.take() {
            memory::ready_for(functions);
        }
    }

    /// Analyses and plans what may become the file of `module`, so that a reload with it does not have to; its bytes. Only the last
    /// such is kept.
    ///
    /// # Errors
    /// As [`Engine::prepare`], and what was given is no library.
    pub fn draft(
        &mut self,
        link: &mut AgentLink,
        module: &Path,
        ledger: &ModuleLedger,
        candidate: Candidate,
    ) -> Result<Arc<Vec<u8>>> {
        let name = file_name(module);
        let _underway = self.progress.begin(&name, true);
        self.drafts.remove(module);
        let (shadows, pid) = (self.shadows.clone(), link.pid());
        let lineage = self.lineage(link, module, ledger)?;
        let parent = index_of(lineage, ledger.active, &name)?;
        lineage.revive(parent)?;
        let draft = uninterrupted(Stage::Plan, module, || {
            let mut draft = Draft::of(candidate, ledger, (&*lineage, parent), &shadows, &name)?;
            draft.plan_ahead(lineage, parent, pid);
            Ok(draft)
        })?;
        let bytes = draft.bytes();
        self.drafts.insert(module.to_owned(), draft);
        Ok(bytes)
    }

    pub fn has_draft(&self, module: &Path) -> bool {
        self.drafts.contains_key(module)
    }

    /// Whether a file of this content has been drafted for the module as it is now.
    pub fn has_draft_of(&self, module: &Path, content: &str, ledger: &ModuleLedger) -> bool {
        self.drafts.get(module).is_some_and(|draft| draft.is_of(content, ledger))
    }

    pub fn forget_draft(&mut self, module: &Path) {
        self.drafts.remove(module);
    }

    /// Forgets what was to follow something that does not run any more.
    pub fn forget_outdated_drafts(&mut self, ledger: &Ledger) {
        self.drafts.retain(|module, draft| ledger.module(module).is_some_and(|entry| draft.follows(entry)));
    }

    /// Whether a module has begun to offer this name to others.
    pub fn offers(&mut self, of: &ModuleLedger, name: &str) -> bool {
        self.elsewhere.offers(of, name)
    }

    /// Whether a further try may find what the loader did not find for a module: another one has begun to offer it.
    pub fn find_supplier(&mut self, ledger: &Ledger, module: &Path, name: &str) -> bool {
        self.elsewhere.find_supplier(ledger, module, name)
    }

    /// Superreloads `module` with `candidate`.
    ///
    /// # Errors
    /// [`Error::Refused`]: a decision before the target was touched. Anything else: a mechanism broke, and the target runs
    /// its old generation.
    pub fn reload(
        &mut self,
        link: &mut AgentLink,
        revision: u64,
        ledger: &Ledger,
        module: &Path,
        candidate: Candidate,
        force: bool,
    ) -> Result<Reloaded> {
        let mut clock = Clock::start();
        let entry = module_ledger(ledger, module)?;
        let name = file_name(module);
        let underway = self.progress.begin(&name, false);
        let shadows = self.shadows.clone();
        // One of something else goes last: to free it takes its time.
        let (ahead, _unfit) = match self.drafts.remove(module) {
            Some(draft) if draft.is_of(&candidate.content, entry) => (Some(draft), None),
            other => (None, other),
        };
        let lineage = self.lineage(link, module, entry)?;
        let parent = index_of(lineage, entry.active, &name)?;
        lineage.revive(parent)?;
        clock.lap(|timings| &mut timings.read);
        underway.enter(Stage::Parse)?;

        let (stamp, content) = (candidate.stamp.clone(), candidate.content.clone());
        let mut draft = match ahead {
            Some(draft) => draft,
            None => uninterrupted(Stage::Parse, module, || {
                Draft::of(candidate, entry, (&*lineage, parent), &shadows, &name)
            })?,
        };
        let writing = draft.shadow(link.pid());
        clock.lap(|timings| &mut timings.parse);
        underway.enter(Stage::Plan)?;

        let objections = if force { Objections::Warn } else { Objections::Refuse };
        let drafted = draft.is_planned(objections);
        let plan = uninterrupted(Stage::Plan, module, || {
            draft.plan(lineage, parent, objections).map_err(|reasons| Error::Refused {
                module: name.clone(),
                stage: Stage::Plan,
                reasons,
                remedy: remedy(entry, &content),
            })
        })?;
        clock.lap(|timings| &mut timings.plan);
        underway.enter(Stage::Shadow)?;

        if plan.changes_nothing() {
            debug!("{name}: a new file, but no function or static differs");
            return unchanged(link, revision, ledger, module, stamp, content, clock);
        }
        let record = GenerationRecord {
            number: next_number(entry),
            parent: entry.active,
            file: plan.image.path.clone(),
            bias: LoadBias(0),
            tls_module: 0,
            tls_base: 0,
            stamp,
            content,
            merged: Vec::new(),
        };
        let mut spare = spare(lineage, parent);
        let mut edits = plan.shadow();
        edits.extend(self.elsewhere.supplies(&plan.image.bytes, ledger, module));
        let shadow = writing.finish(&edits, &mut spare)?;
        clock.lap(|timings| &mut timings.shadow);
        underway.go_on(Stage::Load);

        let mut helper = self.take_helper()?;
        let extension = !registration::python_modules(&plan.image).is_empty();
        let adapter = if extension { Some(python::install(&shadows)?) } else { None };
        let lineage = self.lineage(link, module, entry)?;
        helper.prepare(link);
        let clock = &mut clock;
        let mut attempt =
            Attempt { link, revision, lineage, plan: &plan, ledger, module, adapter, clock, underway: &underway };
        let result = match attempt.publish(record.clone(), &mut helper) {
            Ok(published) => Ok(published),
            Err(error) => attempt.after_failure(error, &record),
        };
        // A link that broke gives the right back by itself.
        let _ = attempt.link.end();
        helper.stand_down();
        self.helper = Some(helper);
        // Another controller was quicker: nothing has been done.
        let conflict = matches!(result, Err(Error::Stale | Error::Busy { .. }));
        if result.is_err() && !conflict && extension {
            // So that the next attempt finds the interpreter free.
            let _ = link.adapted();
        }
        let (mut receipt, ledger, revision) = match result {
            Ok(published) => published,
            Err(error) => {
                // What is not certain is read anew from the ledger next time.
                if !conflict {
                    self.lineages.remove(module);
                }
                return Err(error);
            }
        };
        receipt.timings_ms = clock.finish();
        receipt.warnings.extend(self.elsewhere.inlined(&plan, &ledger, module));
        if let Some(Analysed { lineage, .. }) = self.lineages.get(module).filter(|_| !plan.removed.is_empty()) {
            let old = &lineage.placed(parent).image;
            receipt.warnings.extend(self.elsewhere.still_used(&plan, old, &ledger, module));
            receipt.warnings.extend(held::removed_functions(link, lineage, &plan));
        }
        receipt.details.analysis_shared = draft.shared;
        receipt.details.drafted = drafted;
        let completed = shadow.complete(&mut spare);
        receipt.warnings.extend(without_lines(&spare.stripped));
        drop((plan, spare));
        let mut freed = None;
        if let (Some(analysed), Some(entry)) = (self.lineages.get_mut(module), ledger.module(module)) {
            analysed.of.clone_from(&entry.generations);
            let last = analysed.lineage.all().len() - 1;
            freed = analysed.lineage.retire_all_but([parent, last]);
            let image = &analysed.lineage.placed(last).image;
            image.make_ready();
            self.memory_for = self.memory_for.max(Some(image.functions.len()));
        }
        if let Err(error) = completed {
            receipt.warnings.push(format!("debuggers and backtraces find no lines of this generation: {error}"));
        }
        self.ready_helper();
        info!("{name}: generation {} after {:.1} ms", receipt.generation, receipt.timings_ms.total);
        Ok(Reloaded { receipt, ledger, revision, freed })
    }

    /// Makes generation `to` run again; `rejected` is noted with it, at the same instant.
    ///
    /// # Errors
    /// The generation is unknown, or the threads cannot be stopped; the target runs what it ran before.
    pub fn rollback(
        &mut self,
        link: &mut AgentLink,
        revision: u64,
        ledger: &Ledger,
        module: &Path,
        to: Generation,
        rejected: Rejected,
    ) -> Result<Reloaded> {
        let mut clock = Clock::start();
        let entry = module_ledger(ledger, module)?;
        let name = file_name(module);
        let underway = self.progress.begin(&name, false);
        let mut helper = self.take_helper()?;
        let shadows = self.shadows.clone();
        self.drafts.remove(module);
        let lineage = self.lineage(link, module, entry)?;
        let from = index_of(lineage, entry.active, &name)?;
        let target = index_of(lineage, to, &name)?;
        underway.enter(Stage::Plan)?;
        let step = transition(lineage, from, target, None);
        clock.lap(|timings| &mut timings.plan);

        let mut receipt = Receipt::empty(&name, Outcome::Reloaded, to);
        note_entries(lineage, &step, &mut receipt);
        note_merged(lineage, entry, (from, target), &mut receipt);
        let mut next = ledger.clone();
        if let Some(entry) = next.module_mut(module) {
            (entry.active, entry.rejected) = (to, Some(rejected));
        }
        let changes = parts::changes(ledger, &next, link.space())?;
        let extension = !registration::python_modules(&lineage.placed(from).image).is_empty();
        let there = link.space().from_there(module).to_owned();
        let input = python::to_roll_back(lineage, &there, to);
        link.begin(revision)?;
        helper.prepare(link);
        let go = || {
            underway.go_on(Stage::Stop);
            participation::await_safe_point(link, ledger.wishes, module, &mut receipt)?;
            clock.lap(|timings| &mut timings.safe_point);
            if let Some(hook) = Hook::Before.of(lineage.placed(from)) {
                underway.go_on(Stage::Hook);
                participation::call(link, Hook::Before, hook, to, module)?;
                clock.lap(|timings| &mut timings.hooks);
            }
            if extension {
                underway.go_on(Stage::Adapt);
                python::prepare(link, &python::install(&shadows)?, &name, input, &mut receipt)?;
                clock.lap(|timings| &mut timings.adapt);
            }
            let staged = stage(link, lineage, step, changes, &mut clock)?;
            underway.go_on(Stage::Commit);
            let revision = commit(link, &mut helper, staged, &mut receipt, &mut clock)?;
            let after = Hook::After.of(lineage.placed(target));
            if after.is_some() {
                underway.go_on(Stage::Hook);
            }
            if let Some(hook) = after
                && let Err(error) = participation::call(link, Hook::After, hook, to, module)
            {
                if extension {
                    python::finish(link, &mut receipt);
                    let input = python::to_roll_back(lineage, &there, lineage.placed(from).number);
                    python::prepare_to_take_back(link, &python::install(&shadows)?, &name, input);
                }
                return Err(take_back(link, &mut helper, lineage, module, (target, from), next.clone(), error));
            }
            clock.lap(|timings| &mut timings.hooks);
            Ok(revision)
        };
        let committed = go();
        let _ = link.end();
        helper.stand_down();
        if extension {
            python::finish(link, &mut receipt);
        }
        let revision = committed?;
        receipt.timings_ms = clock.finish();
        // If not, the next reload will tell why.
        if lineage.revive(target).is_ok() {
            lineage.placed(target).image.make_ready();
        }
        self.helper = Some(helper);
        self.ready_helper();
        Ok(Reloaded { receipt, ledger: next, revision, freed: None })
    }

    /// Replaces mappings of files by mappings of their copies; how long it took and how long the target stood still, in
    /// milliseconds. Nothing else changes, the ledger neither.
    ///
    /// # Errors
    /// The threads cannot be stopped from outside, or a copy cannot be mapped: some mappings may have been replaced already,
    /// which harms nobody.
    pub fn shield(
        &mut self,
        link: &mut AgentLink,
        revision: u64,
        replacements: Vec<Replacement>,
    ) -> Result<(u64, f64, f64)> {
        // A signal would interrupt the target's waits, and nobody has asked for that.
        stop::is_possible_from_outside(link.pid())?;
        let clock = Clock::start();
        let mut helper = self.take_helper()?;
        let transaction = Transaction { replacements, ..Transaction::default() };
        // The agent covers no other file's mapping.
        link.begin_anyway(revision)?;
        let go = || {
            helper.prepare(link);
            let staged = link.stage(transaction)?;
            stop::commit(link, &mut helper, staged)
        };
        let stopped = go();
        let _ = link.end();
        helper.stand_down();
        self.helper = Some(helper);
        self.ready_helper();
        let stopped = stopped?;
        Ok((stopped.revision, clock.finish().total, milliseconds(stopped.pause)))
    }

    /// The stop helper that was started ahead of time, or one started now.
    fn take_helper(&mut self) -> Result<StopHelper> {
        self.helper.take().map_or_else(StopHelper::spawn, Ok)
    }

    /// For the next time; without, that is a little slower.
    fn ready_helper(&mut self) {
        if let Some(helper) = &mut self.helper {
            let _ = helper.start();
        }
    }

    /// The generations of a module, from the cache or replayed from the ledger.
    fn lineage(&mut self, link: &mut AgentLink, module: &Path, entry: &ModuleLedger) -> Result<&mut Lineage> {
        if !self.lineages.get(module).is_some_and(|analysed| analysed.is_of(&entry.generations)) {
            let lineage = replay::replay(link, entry, &file_name(module))?;
            self.lineages.insert(module.to_owned(), Analysed { lineage, of: entry.generations.clone() });
        }
        self.lineages.get_mut(module).map(|analysed| &mut analysed.lineage).ok_or_else(|| unknown(module))
    }
}

/// A lineage and the records that it was made of.
#[derive(Debug)]
struct Analysed {
    lineage: Lineage,
    of: Vec<Arc<GenerationRecord>>,
}

impl Analysed {
    /// Whether it is that of these generations. Their stamps do not matter.
    fn is_of(&self, generations: &[Arc<GenerationRecord>]) -> bool {
        same_generations(&self.of, generations)
    }
}

fn same_generations(some: &[Arc<GenerationRecord>], others: &[Arc<GenerationRecord>]) -> bool {
    let same = |(one, other): (&Arc<GenerationRecord>, &Arc<GenerationRecord>)| {
        let alike = || one.number == other.number && one.bias == other.bias && one.file == other.file;
        Arc::ptr_eq(one, other) || alike()
    };
    some.len() == others.len() && some.iter().zip(others).all(same)
}

/// Of the generations before the one that runs.
fn spare(lineage: &Lineage, running: usize) -> Spare {
    let placed = lineage.all().iter().enumerate().skip(1).filter(|(index, _)| *index != running);
    Spare::new(placed.map(|(_, placed)| (placed.number, Arc::clone(&placed.image))).collect())
}

/// What to do about a plan that was refused; `content` is the file's.
fn remedy(entry: &ModuleLedger, content: &str) -> String {
    let remedy = "change the code so that this holds, restart the target, or override with --force";
    let same = |record: &&Arc<GenerationRecord>| record.number < entry.active && record.content == content;
    match entry.generations.iter().rev().find(same) {
        Some(before) => format!(
            "{remedy}; generation {} was made of this very file: a rollback to it asks nothing, and checks nothing",
            before.number
        ),
        None => remedy.to_owned(),
    }
}

fn without_lines(stripped: &[Generation]) -> Option<String> {
    let numbers: Vec<String> = stripped.iter().map(Generation::to_string).collect();
    if numbers.is_empty() {
        return None;
    }
    Some(format!(
        "the store is full: debuggers and backtraces find no lines of generation {} any more; give it more room \
         ($XDG_RUNTIME_DIR, else the temporary directory) before the target is next started",
        numbers.join(", ")
    ))
}

fn keeps_value(name: &str, of: Generation) -> String {
    format!("`{name}` keeps the value that generation {of} gave it")
}

/// Stages a transition together with what of the ledger records it; the transaction's number.
fn stage(
    link: &mut AgentLink,
    lineage: &Lineage,
    step: Transition,
    ledger: Vec<Part>,
    clock: &mut Clock,
) -> Result<u64> {
    let text = text_segments(lineage, &step);
    let transaction = Transaction {
        patches: step.patches,
        writes: step.writes,
        merges: step.merges,
        text,
        forbidden: step.forbidden,
        ledger,
        ..Transaction::default()
    };
    let staged = link.stage(transaction)?;
    clock.lap(|timings| &mut timings.stage);
    Ok(staged)
}

/// Commits what was staged; the ledger's new revision.
fn commit(
    link: &mut AgentLink,
    helper: &mut StopHelper,
    staged: u64,
    receipt: &mut Receipt,
    clock: &mut Clock,
) -> Result<u64> {
    let stopped = stop::commit(link, helper, staged)?;
    clock.timings.pause = milliseconds(stopped.pause);
    clock.lap(|timings| &mut timings.commit);
    receipt.details.stop = stopped.method;
    Ok(stopped.revision)
}

/// Makes generation `to` run again after generation `from` was refused by its own hook; the error to report.
fn take_back(
    link: &mut AgentLink,
    helper: &mut StopHelper,
    lineage: &Lineage,
    module: &Path,
    (from, to): (usize, usize),
    ledger: Ledger,
    refusal: Error,
) -> Error {
    let before = lineage.placed(to).number;
    let mut back = ledger.clone();
    if let Some(entry) = back.module_mut(module) {
        entry.active = before;
    }
    let (mut receipt, mut clock) = (Receipt::empty("", Outcome::Reloaded, before), Clock::start());
    let step = transition(lineage, from, to, None);
    let taken_back = parts::changes(&ledger, &back, link.space())
        .and_then(|changes| stage(link, lineage, step, changes, &mut clock))
        .and_then(|staged| commit(link, helper, staged, &mut receipt, &mut clock));
    match (taken_back, refusal) {
        (Err(error), refusal) => {
            let reason = format!("{refusal}; and generation {before} could not be made to run again: {error}");
            Error::Image { path: module.to_owned(), stage: Stage::Hook, reason }
        }
        (Ok(_), Error::Refused { module, stage, mut reasons, remedy }) => {
            reasons.push(format!("the new generation ran for a moment, and generation {before} was put back"));
            Error::Refused { module, stage, reasons, remedy }
        }
        (Ok(_), other) => other,
    }
}

/// The same refusal with the initial values that the generation gave before it was taken back.
fn with_what_stays(mut refusal: Error, receipt: &Receipt) -> Error {
    if let Error::Refused { reasons, .. } = &mut refusal {
        let names = receipt.details.merged_statics.iter();
        reasons.extend(names.map(|name| keeps_value(name, receipt.generation)));
    }
    refusal
}

/// The executable segments that are written to.
fn text_segments(lineage: &Lineage, step: &Transition) -> Vec<Segment> {
    let is_written = |Segment { range: Range { start, len }, .. }: &&Segment| {
        let first = step.patches.partition_point(|patch| patch.address < *start);
        step.patches.get(first).is_some_and(|patch| patch.address < start + len)
            || step.writes.iter().any(|write| (*start..start + len).contains(&write.address))
    };
    let mut result: Vec<Segment> = lineage.text().iter().filter(is_written).copied().collect();
    result.sort_unstable_by_key(|segment| segment.range.start);
    result
}

/// Tells in the receipt which entries could not be redirected.
fn note_entries(lineage: &Lineage, step: &Transition, receipt: &mut Receipt) {
    let name = |instance: &Instance| demangle(lineage.name(*instance));
    let mut stuck: Vec<String> = step.unpatchable.iter().chain(&step.torn).chain(&step.far).map(name).collect();
    stuck.sort();
    stuck.dedup();
    receipt.functions.unpatchable = stuck.len();
    let reasons = [
        (&step.unpatchable, "has no room for a jump at its entry"),
        (&step.torn, "was merged with another function by the linker and now differs from it"),
        (&step.far, "is more than 2 GiB away from its new code"),
    ];
    for (instances, reason) in reasons {
        let mut generations: BTreeMap<String, BTreeSet<Generation>> = BTreeMap::new();
        for instance in instances {
            generations.entry(name(instance)).or_default().insert(lineage.placed(instance.generation).number);
        }
        receipt.warnings.extend(generations.into_iter().take(Details::LIMIT).map(|(name, generations)| {
            let numbers: Vec<String> = generations.iter().map(Generation::to_string).collect();
            format!("`{name}` {reason}: callers of generation {} stay in old code", numbers.join(", "))
        }));
    }
    receipt.details.unpatchable = stuck.into_iter().take(Details::LIMIT).collect();
}

/// A file that differs without meaning anything else: the running generation now stands for it.
fn unchanged(
    link: &mut AgentLink,
    revision: u64,
    ledger: &Ledger,
    module: &Path,
    stamp: FileStamp,
    content: String,
    clock: Clock,
) -> Result<Reloaded> {
    let mut next = ledger.clone();
    let entry = next.module_mut(module).ok_or_else(|| unknown(module))?;
    entry.rejected = None;
    let active = entry.active;
    if let Some(record) = entry.generations.iter_mut().find(|record| record.number == active) {
        let record = Arc::make_mut(record);
        (record.stamp, record.content) = (stamp, content);
    }
    let revision = link.set_ledger(revision, parts::changes(ledger, &next, link.space())?)?;
    let mut receipt = Receipt::empty(file_name(module), Outcome::Unchanged, active);
    receipt.timings_ms = clock.finish();
    Ok(Reloaded { receipt, ledger: next, revision, freed: None })
}

/// Tells what a rollback does not take back: initial values that statics were given on the way.
fn note_merged(lineage: &Lineage, entry: &ModuleLedger, (from, to): (usize, usize), receipt: &mut Receipt) {
    let kept = lineage.path(to);
    for generation in lineage.path(from).into_iter().filter(|generation| kept.binary_search(generation).is_err()) {
        let number = lineage.placed(generation).number;
        let lines = entry.history.iter().filter(|line| line.receipt.generation == number);
        for name in lines.flat_map(|line| &line.receipt.details.merged_statics) {
            receipt.warnings.push(keeps_value(name, number));
        }
    }
}

fn module_ledger<'a>(ledger: &'a Ledger, module: &Path) -> Result<&'a ModuleLedger> {
    ledger.module(module).ok_or_else(|| unknown(module))
}

fn index_of(lineage: &Lineage, number: Generation, name: &str) -> Result<usize> {
    lineage.index_of(number).ok_or_else(|| Error::Unsuitable {
        module: name.to_owned(),
        reason: format!("generation {number} does not exist"),
    })
}

fn unknown(module: &Path) -> Error {
    Error::NoSuchModule { wanted: module.display().to_string(), candidates: Vec::new() }
}

/// A file that trips a mistake of ours costs this one reload, not the session.
fn uninterrupted<T>(stage: Stage, module: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let owned = || panic.downcast_ref::<String>().cloned();
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(owned).unwrap_or_default();
        let reason = format!("internal error ({text}); please report it with this file");
        Err(Error::Image { path: module.to_owned(), stage, reason })
    })
}

/// Names the stage in which the agent gave up.
fn in_stage(error: Error, module: &Path, stage: Stage) -> Error {
    match error {
        Error::Agent(reason) => Error::Image { path: module.to_owned(), stage, reason },
        other => other,
    }
}

fn milliseconds(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Times the stages of one reload.
#[derive(Debug)]
struct Clock {
    start: Instant,
    lap: Instant,
    timings: Timings,
}

impl Clock {
    fn start() -> Self {
        let now = Instant::now();
        Clock { start: now, lap: now, timings: Timings::default() }
    }

    fn lap(&mut self, stage: impl Fn(&mut Timings) -> &mut f64) {
        let now = Instant::now();
        *stage(&mut self.timings) += milliseconds(now - self.lap);
        self.lap = now;
    }

    fn finish(&self) -> Timings {
        Timings { total: milliseconds(self.start.elapsed()), ..self.timings }
    }
}
