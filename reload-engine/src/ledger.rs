//! What has been done to a target: the one memory that outlives a dashboard.
//!
//! The agent keeps these bytes with a revision and does not look inside. Everything not in here is derived again from the
//! generations' files by replay, so a dashboard that starts anew reaches the same decisions as the one before it.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    model::{Addr, Failure, FileStamp, Generation, HistoryEntry, LoadBias, Mark, Mode, Place, Shield, Status},
    target::space::Space,
};

/// The whole ledger of one target.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    pub mode: Mode,
    /// `detach` was called: no session may reload by itself until someone attaches again.
    pub detached: bool,
    #[serde(default)]
    pub wishes: Wishes,
    /// By the path of the module's file: here as we open it, in the agent's keeping as the target loaded it.
    pub modules: BTreeMap<PathBuf, ModuleLedger>,
}

impl Ledger {
    /// For the agent of a target that lives in `space`.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn to_bytes(&self, space: &Space) -> Result<Vec<u8>> {
        let bytes = if space.is_other() {
            serde_json::to_vec(&self.clone().renamed(|path| space.from_there(&path).to_owned()))
        } else {
            serde_json::to_vec(self)
        };
        bytes.map_err(|error| Error::Unsupported(format!("the ledger cannot be written: {error}")))
    }

    /// What the agent of a target that lives in `space` has kept.
    pub fn from_bytes(bytes: &[u8], space: &Space) -> serde_json::Result<Ledger> {
        let ledger: Ledger = serde_json::from_slice(bytes)?;
        Ok(if space.is_other() { ledger.renamed(|path| space.from_here(&path)) } else { ledger })
    }

    fn renamed(mut self, rename: impl Fn(PathBuf) -> PathBuf) -> Ledger {
        self.modules = self.modules.into_iter().map(|(path, module)| (rename(path), module)).collect();
        self
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

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ModuleLedger {
    pub mark: Mark,
    /// Every generation ever committed, ascending; 0 first.
    pub generations: Vec<GenerationRecord>,
    /// The generation that runs.
    pub active: Generation,
    /// The state of the file that must not be tried again by itself, and why.
    pub rejected: Option<Rejected>,
    /// What it took to make the module independent of its file on disk.
    #[serde(default)]
    pub shield: Option<Shield>,
    /// Newest last, at most [`ModuleLedger::HISTORY`].
    pub history: Vec<HistoryEntry>,
}

impl ModuleLedger {
    pub const HISTORY: usize = 50;
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
    /// 128-bit xxh3 of that file's content, as hexadecimal.
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
    pub content: Option<String>,
    /// [`Status::Refused`], [`Status::Failed`], or [`Status::Changed`] after a rollback.
    pub status: Status,
    pub failure: Option<Failure>,
}
