//! A running subject of measurement, the tool or a peer: a program that tells each new value with the time it first saw it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use reload_tests::program::Conversation;
use serde_json::Value;

use crate::{
    clock,
    libraries::{Changed, Library},
};

/// Its processes, ended with the value.
pub struct Subject {
    child: Child,
    pub talk: Conversation,
    /// What the tool said of each reload.
    pub receipts: Vec<Value>,
}

impl Subject {
    pub fn start(command: &mut Command) -> Subject {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let talk = Conversation::new(child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Subject { child, talk, receipts: Vec::new() }
    }

    /// When `wanted` was first returned.
    pub fn value(&mut self, wanted: u16) -> i64 {
        let receipts = &mut self.receipts;
        self.talk.line_where(|line| {
            if let Some(receipt) = line.strip_prefix("receipt ") {
                let receipt: Value = serde_json::from_str(receipt).expect("JSON");
                assert_eq!(receipt["failure"], Value::Null, "version {wanted} was not loaded: {receipt}");
                receipts.push(receipt);
            }
            let (value, at) = line.strip_prefix("value ")?.split_once(' ')?;
            (value.parse() == Ok(wanted)).then(|| at.parse().expect("nanoseconds"))
        })
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.talk.close();
        // A target whose input has ended ends by itself, and its dashboard with it.
        for _ in 0..500 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A library in a place of its own, saved again and again.
pub struct Save<'a> {
    library: &'a Library,
    changed: Changed,
    installed: PathBuf,
    next: u16,
}

impl<'a> Save<'a> {
    /// Installs version 1.
    pub fn first(library: &'a Library, changed: Changed, folder: &Path) -> Save<'a> {
        let installed = folder.join(library.file_name());
        fs::write(&installed, library.version(1, changed)).expect("the folder is ours");
        Save { library, changed, installed, next: 2 }
    }

    pub fn path(&self) -> &Path {
        &self.installed
    }

    /// Puts the next version into place, by rename; milliseconds until the subject returned its value.
    pub fn measure(&mut self, subject: &mut Subject) -> f64 {
        let version = self.next;
        let begun = self.save();
        (subject.value(version) - begun) as f64 / 1e6
    }

    /// Puts the next version into place; when.
    pub fn save(&mut self) -> i64 {
        let version = self.next;
        self.next += 1;
        let beside = self.installed.with_extension("tmp");
        fs::write(&beside, self.library.version(version, self.changed)).expect("the folder is ours");
        // What is left to do after the save before has been done by then, as when people save.
        thread::sleep(Duration::from_millis(60));
        let begun = clock::now();
        fs::rename(&beside, &self.installed).expect("the folder is ours");
        begun
    }
}
