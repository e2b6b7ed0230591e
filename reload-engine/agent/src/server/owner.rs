//! What the one connection does that has taken the right to reload, up to the commit; and how that right ends.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use reload_protocol::{File, Reply, Routine};

use super::{ConnectionId, Server, failed, named};
use crate::{
    adapter::Conversation, fd::GuestFd, ledger, memory, modules, safe_point, shadow::Shadow, transaction::Staged,
};

/// The longest time without a word of the owner's for which threads are held in the safe point.
pub(super) const LONGEST_HOLD: Duration = Duration::from_secs(10);

/// The exclusive right to load and stage, and what was prepared under it.
pub(super) struct Owner {
    pub connection: ConnectionId,
    pub peer: u32,
    /// How many modules had been closed when it read the link map, by which it goes. `None`: that does not matter.
    pub closed: Option<u64>,
    pub shadows: Vec<Shadow>,
    pub staged: Option<Arc<Staged>>,
    /// What goes with the commit.
    pub adapter: Option<Arc<Conversation>>,
}

impl Owner {
    /// Whether what it goes by still lies where it did.
    pub fn is_up_to_date(&self) -> bool {
        self.closed.is_none_or(|closed| closed == modules::closed())
    }

    /// What was closed was so by what it has asked for itself.
    pub fn forgive_closing(&mut self) {
        self.closed = self.closed.map(|_| modules::closed());
    }
}

impl Server {
    pub(super) fn begin(&mut self, id: ConnectionId, peer: u32, expected: u64, closed: Option<u64>) -> Reply {
        if let Some(busy) = self.busy_for(id) {
            return busy;
        }
        if expected != ledger::revision() {
            return Reply::Stale { revision: ledger::revision() };
        }
        let begun = || Owner { connection: id, peer, closed, shadows: Vec::new(), staged: None, adapter: None };
        let owner = self.owner.get_or_insert_with(begun);
        if owner.shadows.is_empty() {
            owner.closed = closed;
        }
        if owner.is_up_to_date() {
            return self.done();
        }
        self.release();
        Reply::Closed
    }

    /// Before code of the host's runs: if it is in a shadow, that one stays.
    pub(super) fn call(&mut self, id: ConnectionId, routine: Routine) -> Result<(), Reply> {
        let owner = self.owned(id)?;
        let address = routine.address();
        let around = |shadow: &&mut Shadow| (shadow.module.start..shadow.module.end).contains(&address);
        if let Some(shadow) = owner.shadows.iter_mut().find(around) {
            shadow.entered = true;
        }
        let mappings = memory::mappings().map_err(|error| failed(format!("reading /proc/self/maps: {error}")))?;
        let runs = |mapping: &memory::Mapping| mapping.protection & libc::PROT_EXEC != 0;
        if mappings.iter().any(|mapping| mapping.range.contains(&address) && runs(mapping)) {
            Ok(())
        } else {
            Err(failed(format!("there is no code at {address:#x}")))
        }
    }

    pub(super) fn load(
        &mut self,
        id: ConnectionId,
        file: &File,
        passed: &mut Vec<GuestFd>,
        bounds: std::ops::Range<u64>,
    ) -> Reply {
        match self.owned(id) {
            Err(reply) => return reply,
            Ok(owner) if !owner.is_up_to_date() => return Reply::Closed,
            Ok(_) => {}
        }
        let (path, open) = match named(file, passed) {
            Ok(named) => named,
            Err(message) => return Reply::Failed { message },
        };
        let loaded = self.arenas.load(&path, bounds);
        if let Some(open) = open {
            self.kept.add(open);
        }
        match loaded {
            Err(message) => Reply::Failed { message },
            Ok(shadow) => {
                let module = shadow.module.clone();
                match self.owned(id) {
                    Ok(owner) => owner.shadows.push(shadow),
                    Err(reply) => return reply,
                }
                Reply::Loaded(module)
            }
        }
    }

    /// The answer to what only the owner may do while there is one, if that is not `id`.
    pub(super) fn busy_for(&self, id: ConnectionId) -> Option<Reply> {
        let other = self.owner.as_ref().filter(|owner| owner.connection != id);
        other.map(|owner| Reply::Busy { pid: owner.peer })
    }

    /// The owner, if `id` is it.
    pub(super) fn owned(&mut self, id: ConnectionId) -> Result<&mut Owner, Reply> {
        match &mut self.owner {
            None => Err(failed("Begin must come first")),
            Some(owner) if owner.connection != id => Err(Reply::Busy { pid: owner.peer }),
            Some(owner) => Ok(owner),
        }
    }

    /// Answers whoever waits for the safe point, and lets threads go that nobody has a use for any more.
    pub(super) fn look_at_safe_point(&mut self) {
        if let Some((id, until)) = self.awaiting {
            let (held, missing) = safe_point::standing();
            if missing == 0 {
                self.awaiting = None;
                self.hold_ends = Some(Instant::now() + LONGEST_HOLD);
                self.reply(id, Reply::SafePoint { held, missing });
            } else if Instant::now() >= until {
                self.let_go();
                self.reply(id, Reply::SafePoint { held, missing });
            }
        }
        if self.hold_ends.is_some_and(|ends| Instant::now() >= ends) {
            self.let_go();
            // What was prepared for threads that stand still must not be done now.
            if let Some(owner) = &mut self.owner {
                owner.staged = None;
            }
        }
    }

    fn let_go(&mut self) {
        (self.awaiting, self.hold_ends) = (None, None);
        safe_point::release();
    }

    /// Ends the owner's right; what it loaded and did not commit goes.
    pub(super) fn release(&mut self) {
        self.let_go();
        if let Some(mut owner) = self.owner.take() {
            if let Some(adapter) = &owner.adapter {
                adapter.give_up();
                // The host's runtime may have seen it, and nobody can tell what it kept.
                let entered = adapter.may_use_shadow();
                owner.shadows.iter_mut().for_each(|shadow| shadow.entered |= entered);
            }
            for shadow in owner.shadows.into_iter().rev() {
                self.arenas.unload(shadow);
            }
        }
    }
}
