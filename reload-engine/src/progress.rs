//! What a session is doing just now, for people who wait for it, and their wish that it stop.
//!
//! Set before each stage, never between stop and resume. Reading it costs a lock that is held for a few stores.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crate::{
    error::{Error, Result},
    model::Stage,
};

/// Shared between a session's thread and the session's owner.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    doing: Mutex<Option<Doing>>,
    cancelled: AtomicBool,
}

/// A piece of work that may take long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Doing {
    /// File name of the module.
    pub module: String,
    pub stage: Stage,
    pub since: Instant,
    /// Analysis ahead of a reload.
    pub ahead: bool,
}

impl Doing {
    /// Whether it can still be cancelled: nothing of it has reached the target.
    pub fn can_be_cancelled(&self) -> bool {
        !self.ahead && is_outside(self.stage)
    }
}

/// Whether the work of a stage is done outside of the target.
fn is_outside(stage: Stage) -> bool {
    stage <= Stage::Shadow
}

impl Progress {
    pub fn doing(&self) -> Option<Doing> {
        self.lock().clone()
    }

    /// Asks that the reload under way be given up at its next stage. It is not, once the target is involved.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Begins a piece of work, which ends when the value returned is dropped.
    pub fn begin(&self, module: &str, ahead: bool) -> Underway {
        self.0.cancelled.store(false, Ordering::Relaxed);
        let module = module.to_owned();
        *self.lock() = Some(Doing { module, stage: Stage::Read, since: Instant::now(), ahead });
        Underway(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Doing>> {
        self.0.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A piece of work under way.
#[derive(Debug)]
pub struct Underway(Progress);

impl Underway {
    /// Goes on to a stage outside of the target.
    ///
    /// # Errors
    /// [`Error::Cancelled`]: somebody wants it to stop.
    pub fn enter(&self, stage: Stage) -> Result<()> {
        debug_assert!(is_outside(stage), "{stage:?} is in the target");
        let mut doing = self.0.lock();
        let Some(doing) = doing.as_mut() else { return Ok(()) };
        if self.0.0.cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled { module: doing.module.clone() });
        }
        doing.stage = stage;
        Ok(())
    }

    /// Goes on to a stage in the target: it is too late to stop.
    pub fn go_on(&self, stage: Stage) {
        debug_assert!(!is_outside(stage), "{stage:?} is outside of the target");
        if let Some(doing) = self.0.lock().as_mut() {
            doing.stage = stage;
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::Progress;
    use crate::{error::Error, model::Stage};

    #[test]
    fn work_is_seen_from_outside_and_ends_with_its_guard() {
        let progress = Progress::default();
        let underway = progress.begin("libfoo.so", false);
        underway.enter(Stage::Plan).unwrap();
        let doing = progress.doing().unwrap();
        assert_eq!((doing.module.as_str(), doing.stage), ("libfoo.so", Stage::Plan));
        assert!(doing.can_be_cancelled());
        drop(underway);
        assert_eq!(progress.doing(), None);
    }

    #[test]
    fn cancelling_works_until_the_target_is_involved_and_for_this_work_only() {
        let progress = Progress::default();
        let first = progress.begin("libfoo.so", false);
        progress.cancel();
        assert!(matches!(first.enter(Stage::Shadow), Err(Error::Cancelled { .. })));
        first.go_on(Stage::Load);
        assert!(!progress.doing().unwrap().can_be_cancelled());
        drop(first);
        progress.begin("libbar.so", false).enter(Stage::Parse).unwrap();
    }
}
