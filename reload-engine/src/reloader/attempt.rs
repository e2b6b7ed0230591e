//! One try to publish a planned generation: from the shadow, which the target loads, to the commit and what follows it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use reload_protocol::{Merge, Range};

use super::{
    Clock, commit, elsewhere, in_stage, note_entries,
    participation::{self, Hook},
    python, stage, take_back, uninterrupted, unknown, with_what_stays,
};
use crate::{
    error::{Error, Result},
    image::demangle,
    ledger::{GenerationRecord, Ledger, ModuleLedger, parts},
    model::{Addr, Details, LoadBias, Outcome, Receipt, Stage, file_name},
    plan::{
        Plan,
        bind::{self, Binding, FunctionIdentities},
        entries::{Transition, transition},
        lineage::Lineage,
        merge,
        residents::Residents,
    },
    progress::Underway,
    target::{link::AgentLink, stop::StopHelper, store},
};

/// How far a shadow may lie from generation 0, so that any two generations reach each other with 32-bit displacements.
const REACH: u64 = 0x3800_0000;

/// One try to publish a plan, from the loaded shadow to the commit.
pub struct Attempt<'a> {
    pub link: &'a mut AgentLink,
    /// Of the ledger, which this is based on.
    pub revision: u64,
    pub lineage: &'a mut Lineage,
    pub plan: &'a Plan,
    pub ledger: &'a Ledger,
    pub module: &'a Path,
    /// For a Python extension, what prepares the interpreter.
    pub adapter: Option<PathBuf>,
    pub clock: &'a mut Clock,
    /// What people who wait are told.
    pub underway: &'a Underway,
}

impl Attempt<'_> {
    /// What was published: its receipt, the ledger that tells of it and that ledger's revision.
    ///
    /// # Errors
    /// Any step before the commit failed, or what follows it took it back; [`Attempt::after_failure`] knows which.
    pub fn publish(&mut self, mut record: GenerationRecord, helper: &mut StopHelper) -> Result<(Receipt, Ledger, u64)> {
        let name = file_name(self.module);
        let origin = self.lineage.placed(0).bias.0;
        let Attempt { link, revision, lineage, plan, module, .. } = self;
        let inside = origin.saturating_sub(REACH)..origin + REACH;
        let loaded = link.begin_and_load(*revision, &record.file, inside, || {
            uninterrupted(Stage::Bind, module, || {
                let functions = FunctionIdentities::new(plan, lineage);
                let residents = Residents::of(plan, lineage, &functions);
                Ok((functions, residents))
            })
        });
        let (loaded, found) = loaded.map_err(|error| in_stage(error, self.module, Stage::Load))?;
        let (functions, residents) = found?;
        self.clock.lap(|timings| &mut timings.load);
        self.underway.go_on(Stage::Bind);
        record.bias = LoadBias(loaded.bias);
        record.tls_module = loaded.tls_module;
        if let Some(own) = &self.plan.tls.own_block {
            let distance = self.link.read_words(&[record.bias.addr(own.slot)])?.into_iter().next().flatten();
            let reason = "the place of its thread-locals cannot be read".to_owned();
            let distance = distance.ok_or(Error::Image { path: self.module.to_owned(), stage: Stage::Load, reason })?;
            record.tls_base = distance.wrapping_sub(own.range.start);
        }

        let place = record.place();
        let unreachable = |reason| Error::Image { path: self.module.to_owned(), stage: Stage::Bind, reason };
        // An initialiser runs before the commit, while the oldest entries still lead to old code: it must meet its own.
        let itself = FunctionIdentities::none(self.plan);
        let at_first = if self.adapter.is_some() { &itself } else { &functions };
        let code = bind::code(self.plan, at_first, &residents, place).map_err(unreachable)?;
        let mut read = |slots: &[Addr]| self.link.read_words(slots);
        let Binding { segments, writes, preempted } =
            bind::bind(self.plan, self.lineage, at_first, &residents, &code, place, &mut read)
                .map_err(|reason| reason.map_or_else(|error| error, unreachable))?;
        if !writes.is_empty() {
            self.link.bind(segments, writes).map_err(|error| in_stage(error, self.module, Stage::Bind))?;
        }
        self.clock.lap(|timings| &mut timings.bind);

        let mut receipt = Receipt {
            functions: self.plan.functions,
            statics: self.plan.statics,
            warnings: self.plan.warnings.clone(),
            details: self.plan.details.clone(),
            ..Receipt::empty(&name, Outcome::Reloaded, record.number)
        };
        receipt.details.retained_bytes = loaded.end - loaded.start;
        receipt.warnings.extend(elsewhere::preempted(self.plan, preempted));

        self.underway.go_on(Stage::Stop);
        participation::await_safe_point(self.link, self.ledger.wishes, self.module, &mut receipt)?;
        self.clock.lap(|timings| &mut timings.safe_point);
        if let Some(hook) = Hook::Before.of(self.lineage.placed(self.plan.parent)) {
            self.underway.go_on(Stage::Hook);
            participation::call(self.link, Hook::Before, hook, record.number, self.module)?;
            self.clock.lap(|timings| &mut timings.hooks);
        }
        let merged = self.merge_initial_values(&functions, record.bias, &mut receipt)?;
        record.merged = merged.iter().map(|merge| Addr(merge.address)).collect();

        if let Some(adapter) = &self.adapter {
            self.underway.go_on(Stage::Adapt);
            let input =
                python::to_reload(self.plan, self.lineage, &functions, self.module_there(), &record, &loaded.path);
            python::prepare(self.link, adapter, &name, input, &mut receipt)?;
            self.clock.lap(|timings| &mut timings.adapt);
        }
        let new = self.lineage.place(self.plan, record.number, place, &code);
        let mut step = Transition { merges: merged, ..transition(self.lineage, self.plan.parent, new, Some(new)) };
        if self.adapter.is_some() {
            let mut read = |slots: &[Addr]| self.link.read_words(slots);
            let late = bind::identities(self.plan, &functions, place, &mut read)
                .map_err(|reason| reason.map_or_else(|error| error, unreachable))?;
            step.write_around_patches(late);
            let code = bind::code(self.plan, &functions, &residents, place).map_err(unreachable)?;
            self.lineage.rebind(new, &code);
        }
        note_entries(self.lineage, &step, &mut receipt);

        let mut next = self.ledger.clone();
        let entry = next.module_mut(self.module).ok_or_else(|| unknown(self.module))?;
        entry.active = record.number;
        entry.rejected = None;
        entry.generations.push(Arc::new(record));
        let changes = parts::changes(self.ledger, &next, self.link.space())?;
        let staged = stage(self.link, self.lineage, step, changes, self.clock)?;
        if !self.plan.start_up.constructors.is_empty() {
            self.underway.go_on(Stage::Hook);
        }
        participation::construct(self.link, self.plan, place.bias, self.module, &mut receipt)?;
        self.clock.lap(|timings| &mut timings.hooks);
        self.underway.go_on(Stage::Commit);
        let revision = commit(self.link, helper, staged, &mut receipt, self.clock)?;
        self.note_unmerged(&mut receipt)?;
        participation::destruct_at_exit(self.link, self.plan, place.bias, &mut receipt);
        if self.adapter.is_some() {
            python::finish(self.link, &mut receipt);
        }
        let number = receipt.generation;
        let after = Hook::After.of(self.lineage.placed(new));
        if after.is_some() {
            self.underway.go_on(Stage::Hook);
        }
        if let Some(hook) = after
            && let Err(error) = participation::call(self.link, Hook::After, hook, number, self.module)
        {
            if let Some(adapter) = &self.adapter {
                let input = python::to_roll_back(
                    self.lineage,
                    self.module_there(),
                    self.lineage.placed(self.plan.parent).number,
                );
                python::prepare_to_take_back(self.link, adapter, &name, input);
            }
            let error = take_back(self.link, helper, self.lineage, self.module, (new, self.plan.parent), next, error);
            return Err(with_what_stays(error, &receipt));
        }
        self.clock.lap(|timings| &mut timings.hooks);
        Ok((receipt, next, revision))
    }

    /// The module's path as the target knows it.
    fn module_there(&self) -> &Path {
        self.link.space().from_there(self.module)
    }

    /// Writes for statics that the program never touched and the new file initialises differently.
    fn merge_initial_values(
        &mut self,
        functions: &FunctionIdentities,
        bias: LoadBias,
        receipt: &mut Receipt,
    ) -> Result<Vec<Merge>> {
        let left = left_generations(self.lineage, self.plan.parent, self.ledger.module(self.module));
        let questions = merge::questions(self.plan, &left);
        if questions.is_empty() {
            return Ok(Vec::new());
        }
        let ranges = questions.iter().map(|question| Range { start: question.home.0, len: question.size }).collect();
        let live = self.link.read_memory(ranges)?;
        let mut merges = Vec::new();
        for (question, live) in questions.iter().zip(live) {
            let image = &self.plan.image;
            let name = demangle(image.object_name(&image.objects[question.object]));
            match merge::answer(self.plan, self.lineage, functions, bias, question, &left, &live) {
                merge::Answer::Take(after) => {
                    merges.push(Merge { address: question.home.0, before: live, after });
                    receipt.details.merged_statics.push(name);
                }
                merge::Answer::Same => {}
                merge::Answer::Keep => receipt.warnings.push(live_value_stays(&name)),
            }
        }
        receipt.statics.merged = merges.len();
        Ok(merges)
    }

    /// Takes back from the receipt what the program has changed between its comparison and the stop.
    fn note_unmerged(&mut self, receipt: &mut Receipt) -> Result<()> {
        if receipt.statics.merged > 0 {
            let unmerged = self.link.unmerged()?;
            let left = left_generations(self.lineage, self.plan.parent, self.ledger.module(self.module));
            for question in merge::questions(self.plan, &left) {
                if unmerged.contains(&question.home.0) {
                    let name = demangle(self.plan.image.object_name(&self.plan.image.objects[question.object]));
                    receipt.statics.merged -= 1;
                    receipt.details.merged_statics.retain(|merged| *merged != name);
                    receipt.warnings.push(live_value_stays(&name));
                }
            }
        }
        receipt.details.merged_statics.truncate(Details::LIMIT);
        Ok(())
    }

    /// An error may have come after the agent had been told to go: the ledger says what really happened.
    pub fn after_failure(&mut self, error: Error, record: &GenerationRecord) -> Result<(Receipt, Ledger, u64)> {
        let Ok((revision, ledger)) = parts::latest(self.link, 0, &Ledger::default()) else { return Err(error) };
        let entry = ledger.module(self.module);
        let known = entry.is_some_and(|entry| entry.generations.iter().any(|known| known.file == record.file));
        if known && entry.is_some_and(|entry| entry.active != record.number) {
            // It was committed and taken back.
            return Err(error);
        }
        if known {
            let mut receipt = Receipt::empty(file_name(self.module), Outcome::Reloaded, record.number);
            receipt.warnings.push(format!("the commit took place, though it was reported otherwise: {error}"));
            return Ok((receipt, ledger, revision));
        }
        // The agent closes the uncommitted shadow; its file is of no use any more.
        store::remove_with_folder(&record.file);
        Err(error)
    }
}

fn live_value_stays(name: &str) -> String {
    format!("`{name}` has a new initial value, but the program has changed it: the live value stays")
}

/// The generations that rollbacks have left before `running`, with what is still there of them.
fn left_generations<'a>(lineage: &Lineage, running: usize, entry: Option<&'a ModuleLedger>) -> Vec<merge::Left<'a>> {
    let path = lineage.path(running);
    if path.len() == lineage.all().len() {
        return Vec::new();
    }
    let records = entry.map_or(&[][..], |entry| &entry.generations);
    let given = records.iter().filter(|record| !record.merged.is_empty());
    given
        .filter_map(|record| {
            let generation = lineage.index_of(record.number).filter(|index| path.binary_search(index).is_err())?;
            Some(merge::Left { generation, merged: &record.merged })
        })
        .collect()
}
