//! What has been done to a target: the one memory that outlives a dashboard.
//!
//! The agent keeps it in parts ([`parts`]) under one revision and does not look inside. Everything not in here is derived again
//! from the generations' files by replay, so a dashboard that starts anew reaches the same decisions as the one before it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::model::{Addr, Failure, FileStamp, Generation, HistoryEntry, LoadBias, Mark, Mode, Place, Shield, Status};

pub mod parts;

/// The whole ledger of one target. What it holds is shared between copies, so that one costs little however much there is.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ledger {
    pub mode: Mode,
    /// `detach` was called: no session may reload by itself until someone attaches again.
    pub detached: bool,
    pub wishes: Wishes,
    /// By the path of the module's file: here as we open it, in the agent's keeping as the target loaded it.
    pub modules: BTreeMap<Arc<Path>, Arc<ModuleLedger>>,
}

impl Ledger {
    pub fn module(&self, path: &Path) -> Option<&ModuleLedger> {
        self.modules.get(path).map(|module| &**module)
    }

    /// To be changed, if there is one.
    pub fn module_mut(&mut self, path: &Path) -> Option<&mut ModuleLedger> {
        self.modules.get_mut(path).map(Arc::make_mut)
    }

    /// To be changed, a new one if there is none.
    pub fn entry(&mut self, path: &Path) -> &mut ModuleLedger {
        Arc::make_mut(self.modules.entry(path.into()).or_default())
    }
}

/// How the user wants this target treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Wishes {
    /// Whether modules are made independent of their files on disk.
    pub shield: bool,
    /// How long a reload waits for the safe point of a target that has one, in milliseconds.
    pub safe_point_ms: u32,
    /// What happens then.
    pub safe_point_missed: Missed,
}

impl Default for Wishes {
    fn default() -> Wishes {
        Wishes { shield: true, safe_point_ms: 1000, safe_point_missed: Missed::Proceed }
    }
}

/// What is asked to be different.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NewWishes {
    pub shield: Option<bool>,
    pub safe_point_ms: Option<u32>,
    pub safe_point_missed: Option<Missed>,
}

impl NewWishes {
    pub fn applied_to(self, old: Wishes) -> Wishes {
        Wishes {
            shield: self.shield.unwrap_or(old.shield),
            safe_point_ms: self.safe_point_ms.unwrap_or(old.safe_point_ms),
            safe_point_missed: self.safe_point_missed.unwrap_or(old.safe_point_missed),
        }
    }
}

/// What becomes of a reload for which the target did not come to its safe point in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// It takes place all the same, with a warning.
    #[default]
    Proceed,
    Refuse,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct ModuleLedger {
    pub mark: Mark,
    /// Every generation ever committed, ascending; 0 first.
    pub generations: Vec<Arc<GenerationRecord>>,
    /// The generation that runs.
    pub active: Generation,
    /// The state of the file that must not be tried again by itself, and why.
    pub rejected: Option<Rejected>,
    /// What it took to make the module independent of its file on disk.
    pub shield: Option<Shield>,
    /// Newest last, at most [`ModuleLedger::HISTORY`].
    pub history: Vec<Arc<HistoryEntry>>,
}

impl ModuleLedger {
    pub const HISTORY: usize = 50;

    pub fn record(&self, number: Generation) -> Option<&Arc<GenerationRecord>> {
        let index = self.generations.binary_search_by_key(&number, |record| record.number).ok()?;
        self.generations.get(index)
    }

    /// Of the generation that runs.
    pub fn running(&self) -> Option<&Arc<GenerationRecord>> {
        self.record(self.active)
    }
}

/// One generation: where its file is kept and where the loader put it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct GenerationRecord {
    pub number: Generation,
    /// The generation it was planned against.
    pub parent: Generation,
    /// The private copy: an original for generation 0, a shadow otherwise.
    pub file: PathBuf,
    pub bias: LoadBias,
    pub tls_module: u64,
    /// As [`Place::tls_base`].
    #[serde(default)]
    pub tls_base: u64,
    /// The file on disk it was made from.
    pub stamp: FileStamp,
    /// Of that file's content, as [`content_hash`](crate::watcher::content_hash).
    #[serde(rename = "fingerprint")]
    pub content: String,
    /// Homes of the statics that took their initial values of it. They keep those when it is left.
    #[serde(default)]
    pub merged: Vec<Addr>,
}

impl GenerationRecord {
    pub fn place(&self) -> Place {
        Place { bias: self.bias, tls_module: self.tls_module, tls_base: self.tls_base }
    }
}

/// A state of the file that is left alone until it changes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Rejected {
    pub stamp: Option<FileStamp>,
    #[serde(rename = "fingerprint")]
    pub content: Option<String>,
    /// [`Status::Refused`], [`Status::Failed`], or [`Status::Changed`] after a rollback.
    pub status: Status,
    pub failure: Option<Failure>,
}
