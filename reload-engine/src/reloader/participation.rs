//! The target's own part in a reload: its safe point, the hooks of its library, constructors that are new.
//!
//! All of it is code of the user's: it may take long, fail or never return. What it has done cannot be undone; what it
//! refuses does not happen.

use std::{path::Path, time::Duration};

use reload_protocol::Routine;

use crate::{
    error::{Error, Result},
    image::demangle,
    ledger::{Missed, Wishes},
    model::{Addr, Details, Generation, LoadBias, Receipt, Stage, file_name},
    plan::{Plan, hooks, lineage::Placed},
    target::link::AgentLink,
};

/// How long a hook or a constructor may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A function of the library that is called by its name: `int superreload_before(unsigned generation)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Before,
    After,
}

impl Hook {
    pub fn name(self) -> &'static str {
        match self {
            Hook::Before => hooks::BEFORE,
            Hook::After => hooks::AFTER,
        }
    }

    /// Where the hook lies in this generation, if it has one.
    pub fn of(self, placed: &Placed) -> Option<Addr> {
        let hook = match self {
            Hook::Before => placed.hooks.before,
            Hook::After => placed.hooks.after,
        };
        hook.map(|hook| placed.bias.addr(hook))
    }
}

/// Calls a hook on the way to `generation`, and takes anything but 0 for a refusal.
pub fn call(link: &mut AgentLink, hook: Hook, at: Addr, generation: Generation, module: &Path) -> Result<()> {
    let name = hook.name();
    let routine = Routine::Hook { address: at.0, generation: generation.0 };
    let status = link.call(routine, PATIENCE).map_err(|error| about(error, name, module))?;
    if status == 0 {
        return Ok(());
    }
    let reason = format!("`{name}` returned {status} for generation {generation}");
    Err(refused(module, Stage::Hook, reason, "the library's own hook says no: see to what it checks, then try again"))
}

/// Waits until the threads that use the safe point stand in it, for as long as the user wants.
pub fn await_safe_point(link: &mut AgentLink, wishes: Wishes, module: &Path, receipt: &mut Receipt) -> Result<()> {
    let limit = wishes.safe_point_ms;
    let missing = link.safe_point(Duration::from_millis(limit.into()))?;
    if missing == 0 {
        return Ok(());
    }
    let threads = if missing == 1 { "a thread".to_owned() } else { format!("{missing} threads") };
    let reason = format!("{threads} did not come to the safe point within {limit} ms");
    match wishes.safe_point_missed {
        Missed::Refuse => {
            let remedy = "try again by naming the module in `reload`, or wait longer (`attach --safepoint-wait MS`)";
            Err(refused(module, Stage::Stop, reason, remedy))
        }
        Missed::Proceed => {
            receipt.warnings.push(format!("{reason}: reloaded without it"));
            Ok(())
        }
    }
}

/// Runs the constructors that no generation before had, each once.
pub fn construct(
    link: &mut AgentLink,
    plan: &Plan,
    bias: LoadBias,
    module: &Path,
    receipt: &mut Receipt,
) -> Result<()> {
    for &function in &plan.start_up.constructors {
        let function = &plan.image.functions[function as usize];
        let name = demangle(plan.image.function_name(function));
        let routine = Routine::Constructor { address: bias.addr(function.address).0 };
        link.call(routine, PATIENCE).map_err(|error| about(error, &name, module))?;
        receipt.details.constructors.push(name);
    }
    receipt.details.constructors.truncate(Details::LIMIT);
    Ok(())
}

/// Has the destructors that no generation before had run at the program's end. The generation is live: what does not work
/// is told.
pub fn destruct_at_exit(link: &mut AgentLink, plan: &Plan, bias: LoadBias, receipt: &mut Receipt) {
    for &function in &plan.start_up.destructors {
        let function = &plan.image.functions[function as usize];
        let name = demangle(plan.image.function_name(function));
        match link.call(Routine::AtExit { address: bias.addr(function.address).0 }, PATIENCE) {
            Ok(0) => receipt.details.destructors.push(name),
            Ok(_) => receipt.warnings.push(format!("the destructor `{name}` is new and will not run: no memory")),
            Err(error) => receipt.warnings.push(format!("the destructor `{name}` is new and will not run: {error}")),
        }
    }
    receipt.details.destructors.truncate(Details::LIMIT);
}

/// The agent's answer with the name of what it speaks of.
fn about(error: Error, name: &str, module: &Path) -> Error {
    match error {
        Error::Agent(reason) => {
            Error::Image { path: module.to_owned(), stage: Stage::Hook, reason: format!("`{name}`: {reason}") }
        }
        other => other,
    }
}

fn refused(module: &Path, stage: Stage, reason: String, remedy: &str) -> Error {
    Error::Refused { module: file_name(module), stage, reasons: vec![reason], remedy: remedy.to_owned() }
}
