//! What becomes of a file without the target: its analysis, the plan and, begun, the shadow. Made when the file is the module's, or
//! already before, when it may be about to become so.

use std::{path::Path, sync::Arc};

use super::{
    Candidate, same_generations, shadow_file,
    shadow_file::{Visits, Writing},
};
use crate::{
    error::Result,
    image::{self, Image},
    ledger::{GenerationRecord, ModuleLedger},
    model::Generation,
    plan::{self, Objections, Plan, lineage::Lineage},
};

/// The next generation of a module, as far as it can be made beforehand.
#[derive(Debug)]
pub struct Draft {
    image: Arc<Image>,
    /// Whether somebody else had analysed the same bytes.
    pub shared: bool,
    /// Its shadow, once that has been begun.
    writing: Option<Writing>,
    content: String,
    /// The generations it was made for, and which of them ran.
    generations: Vec<Arc<GenerationRecord>>,
    active: Generation,
    /// Made with [`Objections::Refuse`].
    plan: Option<Plan>,
}

/// The module's next.
pub fn next_number(module: &ModuleLedger) -> Generation {
    Generation(module.generations.last().map_or(1, |record| record.number.0 + 1))
}

impl Draft {
    /// Analyses a file for the module whose generation `parent` of the lineage runs. Its shadow is to be written into `shadows`.
    ///
    /// # Errors
    /// It is no library.
    pub fn of(
        candidate: Candidate,
        module: &ModuleLedger,
        (lineage, parent): (&Lineage, usize),
        shadows: &Path,
        name: &str,
    ) -> Result<Draft> {
        let Candidate { path, bytes, content, .. } = candidate;
        let before = Some(&*lineage.placed(parent).image);
        let (mut image, shared) = match u128::from_str_radix(&content, 16) {
            Ok(content) => image::analyse_known(&path, bytes, content, before)?,
            Err(_) => image::analyse(&path, bytes, before)?,
        };
        image.path = shadow_file::path(shadows, name, next_number(module));
        let (image, writing) = (Arc::new(image), None);
        let (generations, active) = (module.generations.clone(), module.active);
        Ok(Draft { image, shared, writing, content, generations, active, plan: None })
    }

    /// Plans it as if the file were the module's already, and begins its shadow if there will be one. Why it would be refused is
    /// told when it is.
    pub fn plan_ahead(&mut self, lineage: &Lineage, parent: usize, pid: u32) {
        self.plan = plan::plan(lineage, parent, Arc::clone(&self.image), Objections::Refuse).ok();
        if self.plan.as_ref().is_some_and(|plan| !plan.changes_nothing()) {
            self.writing = Some(self.shadow(pid));
        }
    }

    /// Its shadow, begun now unless it was before, as a debugger of process `pid` wants it.
    pub fn shadow(&mut self, pid: u32) -> Writing {
        let visits = Visits::of(&self.image, pid);
        let begun = self.writing.take();
        begun.map_or_else(|| shadow_file::begin(&self.image, visits), |writing| writing.with(visits))
    }

    /// Whether [`Draft::plan`] has nothing left to do.
    pub fn is_planned(&self, objections: Objections) -> bool {
        self.plan.is_some() && objections == Objections::Refuse
    }

    /// The plan, made now unless it was before.
    ///
    /// # Errors
    /// As [`plan::plan`].
    pub fn plan(&mut self, lineage: &Lineage, parent: usize, objections: Objections) -> Result<Plan, Vec<String>> {
        match self.plan.take() {
            Some(plan) if objections == Objections::Refuse => Ok(plan),
            _ => plan::plan(lineage, parent, Arc::clone(&self.image), objections),
        }
    }

    pub fn bytes(&self) -> Arc<Vec<u8>> {
        Arc::clone(&self.image.bytes)
    }

    /// Whether it is what would be made of a file of this content for the module as it is now.
    pub fn is_of(&self, content: &str, module: &ModuleLedger) -> bool {
        self.content == content && self.follows(module)
    }

    /// Whether that runs which it was made to follow.
    pub fn follows(&self, module: &ModuleLedger) -> bool {
        self.active == module.active && same_generations(&self.generations, &module.generations)
    }
}
