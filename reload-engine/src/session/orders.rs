//! Carrying out what a window or a terminal asks.

use std::path::Path;

use super::{Answer, Command, Event, Order, Update, worker::Worker};
use crate::{
    error::{Error, Result},
    model::{Class, Connection, Generation, Mark, Mode},
};

impl Worker {
    /// Carries out one order and answers it. False: the session is to end.
    pub fn carry_out_order(&mut self, order: Order) -> bool {
        let Order { command, reply } = order;
        if command == Command::Close {
            if let Some(reply) = reply {
                // Whoever asked may not wait for the answer.
                let _ = reply.send(Ok(Answer::Done));
            }
            return false;
        }
        let result = self.command(&command);
        if let Err(error) = &result {
            self.lost_if(error);
        }
        self.publish_if_dirty();
        match (reply, result) {
            (Some(reply), result) => {
                let _ = reply.send(result);
            }
            (None, Err(error)) => {
                let mut chain = error.chain();
                let message = chain.remove(0);
                self.send(Update::CommandFailed { command, message, detail: chain });
            }
            (None, Ok(Answer::Receipts(receipts))) => self.send(Update::Done { command, receipts }),
            (None, Ok(Answer::Done)) => {}
        }
        true
    }

    fn command(&mut self, command: &Command) -> Result<Answer> {
        match &self.connection {
            Connection::Attached | Connection::Detached => {}
            Connection::Exited(_) => return Err(Error::NoSuchProcess { pid: self.pid }),
            Connection::Lost(reason) => return Err(Error::Agent(reason.clone())),
        }
        match command {
            Command::Reload { modules, force } => {
                self.catch_up()?;
                let named = self.resolve_all(modules)?;
                let named = if modules.is_empty() { None } else { Some(named) };
                // Named by the user: from now on its original is kept, whatever its class and mark.
                self.keep_originals(named.as_deref().unwrap_or_default())?;
                Ok(Answer::Receipts(self.reload_now(named, *force)))
            }
            Command::SetMode(mode) => self.set_mode(*mode),
            Command::Mark { modules, mark } => {
                self.catch_up()?;
                let indexes = self.resolve_all(modules)?;
                self.mark(&indexes, *mark)
            }
            Command::Load(path) => self.load(path),
            Command::Rollback { module, generation } => {
                self.catch_up()?;
                let index = self.resolve(module)?;
                self.settle(&[index], false);
                let receipt = self.roll_back(index, generation.map(Generation))?;
                Ok(Answer::Receipts(vec![receipt]))
            }
            Command::Detach => {
                if !self.record.ledger.detached {
                    self.record.change(&mut self.link, |ledger| ledger.detached = true)?;
                    self.tell(Event::Detached);
                    self.attachment_changed();
                }
                Ok(Answer::Done)
            }
            Command::Attach => {
                if self.record.ledger.detached {
                    self.record.change(&mut self.link, |ledger| ledger.detached = false)?;
                    self.tell_attached();
                    self.attachment_changed();
                    self.reconsider();
                }
                Ok(Answer::Done)
            }
            Command::Close => Ok(Answer::Done),
        }
    }

    fn resolve_all(&self, modules: &[String]) -> Result<Vec<usize>> {
        let mut indexes = Vec::new();
        for module in modules {
            let index = self.resolve(module)?;
            if !indexes.contains(&index) {
                indexes.push(index);
            }
        }
        Ok(indexes)
    }

    fn set_mode(&mut self, mode: Mode) -> Result<Answer> {
        if self.record.ledger.mode != mode {
            self.record.change(&mut self.link, |ledger| ledger.mode = mode)?;
            self.tell(Event::Mode { mode });
            self.dirty = true;
            self.reconsider();
        }
        Ok(Answer::Done)
    }

    fn mark(&mut self, indexes: &[usize], mark: Mark) -> Result<Answer> {
        for &index in indexes {
            let module = &self.modules[index];
            if module.class == Class::Protected && mark == Mark::Reload {
                return Err(Error::Unsuitable {
                    module: module.name.clone(),
                    reason: "the loader, libc and what they need can never be reloaded".to_owned(),
                });
            }
        }
        let paths: Vec<_> = indexes.iter().map(|&index| self.modules[index].path.clone()).collect();
        let before: Vec<Mark> =
            paths.iter().map(|path| self.record.module(path).map_or(Mark::None, |of| of.mark)).collect();
        self.record.change(&mut self.link, |ledger| {
            for path in &paths {
                ledger.entry(path).mark = mark;
            }
        })?;
        for (&index, before) in indexes.iter().zip(before) {
            if before != mark {
                let module = self.modules[index].name.clone();
                self.tell(Event::Mark { module, mark });
            }
        }
        self.keep_originals(&[])?;
        self.watch();
        self.dirty = true;
        self.reconsider();
        Ok(Answer::Done)
    }

    /// What is loaded already is not again: after a rebuild the loader takes its file for another one.
    fn load(&mut self, path: &Path) -> Result<Answer> {
        self.list_modules()?;
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let there = self.modules.iter().position(|module| *module.path == *path || *module.path == *real);
        let index = match there {
            Some(index) => index,
            None => {
                let loaded = self.link.dlopen(path)?;
                self.list_modules()?;
                let loaded = self.modules.iter().position(|module| module.bias.0 == loaded.bias);
                loaded.ok_or_else(|| Error::Agent(format!("{}: loaded, but not in the link map", path.display())))?
            }
        };
        if self.modules[index].class == Class::Protected {
            return Ok(Answer::Done);
        }
        self.mark(&[index], Mark::Reload)
    }
}
