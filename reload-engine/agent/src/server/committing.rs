//! What was staged takes place: on the stop helper's connection, or by a signal from inside.

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use reload_protocol::{Range, Reply, SignalStop};

use super::{ConnectionId, Server, failed, owner::Owner};
use crate::{
    commit::{self, Ended},
    ledger,
    shadow::Shadow,
    signal_stop::{self, Stopped},
    transaction::Staged,
    window,
};

/// How long a fault taken while the window was closed may be on its way to the handler.
const GRACE: Duration = Duration::from_millis(250);

const NOT_WAITED: &str = "the commit came too late: the adapter had stopped waiting for it";

impl Server {
    /// What is ready to be committed as `transaction`.
    pub(super) fn staged(&self, transaction: u64) -> Result<Arc<Staged>, Reply> {
        let owner = self.owner.as_ref();
        let staged = owner.and_then(|owner| Some((owner, owner.staged.clone()?)));
        match staged.filter(|(_, staged)| staged.id == transaction) {
            None => Err(failed("no such transaction is staged")),
            Some((owner, _)) if !owner.is_up_to_date() => Err(Reply::Closed),
            Some((_, staged)) => Ok(staged),
        }
    }

    /// Why what was staged could not take place; another module may have come to lie there since.
    fn unlike_planned(&self, message: String) -> Reply {
        let up_to_date = self.owner.as_ref().is_none_or(Owner::is_up_to_date);
        if up_to_date { Reply::Failed { message } } else { Reply::Closed }
    }

    /// The commit on the stop helper's connection.
    pub(super) fn commit(&mut self, id: ConnectionId, staged: Arc<Staged>) {
        self.settle_window(true);
        let range = |range: &std::ops::Range<u64>| Range { start: range.start, len: range.end - range.start };
        let forbidden = staged.forbidden.iter().map(range).collect();
        if !self.hold_adapter() {
            return self.reply(id, failed(NOT_WAITED));
        }
        let priority = commit::Priority::current();
        self.reply(id, Reply::Committing { forbidden });
        let Some(connection) = self.connection(id).filter(|connection| connection.input.is_empty()) else {
            self.tell_adapter(false);
            return self.drop_connection(id, false);
        };
        ledger::prepare(staged.ledger.clone());
        let ended = commit::drive(connection.fd.raw(), &staged);
        self.tell_adapter(matches!(ended, Ended::Committed | Ended::Lost { committed: true }));
        priority.restore();
        let disturbed = matches!(ended, Ended::Lost { .. });
        if disturbed {
            self.settle = Some((Instant::now() + GRACE, Arc::clone(&staged)));
        }
        match ended {
            Ended::Committed | Ended::Lost { committed: true } => {
                self.committed(id);
                let done = self.done();
                self.reply(id, done);
            }
            Ended::Aborted => {
                self.reply(id, Reply::NotNow { reason: "a thread stood inside bytes to be written".into() })
            }
            Ended::Refused(obstacle) => {
                let reply = self.unlike_planned(obstacle.describe());
                self.reply(id, reply);
            }
            Ended::Lost { committed: false } => {}
        }
        if disturbed {
            self.drop_connection(id, false);
        }
    }

    pub(super) fn commit_by_signal(&mut self, id: ConnectionId, staged: &Arc<Staged>) -> Reply {
        self.settle_window(true);
        if !self.hold_adapter() {
            return failed(NOT_WAITED);
        }
        ledger::prepare(staged.ledger.clone());
        let stopped = signal_stop::commit(staged, &[self.thread, self.errands.thread]);
        self.tell_adapter(matches!(stopped, Stopped::Committed { .. }));
        match stopped {
            Stopped::Committed { pause_ns, threads } => {
                self.committed(id);
                Reply::Committed(SignalStop { revision: ledger::revision(), pause_ns, threads })
            }
            Stopped::NotNow(reason) => Reply::NotNow { reason },
            Stopped::Failed(message) => self.unlike_planned(message),
        }
    }

    /// The shadows are live now, and the ledger has become the transaction's with the code.
    fn committed(&mut self, cause: ConnectionId) {
        if let Some(owner) = &mut self.owner {
            // It may still be taken back.
            owner.forgive_closing();
            let merges = owner.staged.take().map_or_else(Vec::new, |staged| {
                let left_out = staged.merges.iter().filter(|(_, left_out)| left_out.load(Ordering::Acquire));
                left_out.map(|(merge, _)| merge.address).collect()
            });
            self.unmerged = merges;
            owner.shadows.drain(..).for_each(Shadow::keep);
        }
        self.tell_ledger(cause);
    }

    /// Gives SIGSEGV back when its time has come; with `wait` that time is awaited.
    pub(super) fn settle_window(&mut self, wait: bool) {
        while let Some((due, _)) = &self.settle {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() && window::restore_disposition() {
                self.settle = None;
            } else if wait {
                thread::sleep(left.max(Duration::from_millis(1)));
            } else if left.is_zero() {
                // Somebody is in the handler just now.
                self.settle = self.settle.take().map(|(_, staged)| (Instant::now() + GRACE, staged));
            } else {
                return;
            }
        }
    }
}
