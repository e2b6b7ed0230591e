//! The conversation with a runtime's adapter that goes with a reload.

use std::sync::{Arc, Mutex, PoisonError};

use reload_protocol::{File, Reply};

use super::{ConnectionId, Server, failed, named};
use crate::{
    adapter::{self, Conversation},
    errands::Errand,
    fd::GuestFd,
};

/// The last conversation with an adapter, and who waits for what it has to say.
pub(super) struct Adapting {
    pub conversation: Arc<Conversation>,
    pub preparation: Option<ConnectionId>,
    pub ending: Option<ConnectionId>,
}

/// Adapters that came as descriptors, by their names here and for the loader. An adapter remembers things, so it must be loaded
/// once; a forked child has its parent's.
static ADAPTERS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

impl Server {
    /// Starts a conversation with the adapter about what the owner has loaded.
    pub(super) fn adapt(
        &mut self,
        id: ConnectionId,
        file: File,
        passed: &mut Vec<GuestFd>,
        input: Vec<u8>,
    ) -> Result<(), Reply> {
        if self.adapting.as_ref().is_some_and(|last| last.conversation.ending().is_none()) {
            return Err(failed("the adapter has not yet come to an end with the reload before"));
        }
        self.owned(id)?;
        let (path, open) = adapter_named(&file, passed).map_err(failed)?;
        self.adapters.extend(open);
        let owner = self.owned(id)?;
        let (conversation, speaker) = adapter::conversation(path, input);
        owner.adapter = Some(Arc::clone(&conversation));
        self.adapting = Some(Adapting { conversation, preparation: Some(id), ending: None });
        self.errands.run_unawaited(Errand::Adapt(speaker));
        Ok(())
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.adapting.as_ref().is_some_and(|adapting| adapting.preparation.is_some() || adapting.ending.is_some())
    }

    pub(super) fn pass_on_adapters_words(&mut self) {
        let Some(adapting) = &mut self.adapting else { return };
        let mut replies = Vec::new();
        if adapting.preparation.is_some()
            && let Some(words) = adapting.conversation.preparation()
        {
            replies.extend(adapting.preparation.take().map(|id| (id, words)));
        }
        if adapting.ending.is_some()
            && let Some(words) = adapting.conversation.ending()
        {
            replies.extend(adapting.ending.take().map(|id| (id, words)));
        }
        for (id, words) in replies {
            self.reply(id, Reply::Adapter(words));
        }
    }

    /// The adapter of the reload being committed is told what becomes of it; `false`: it has not waited.
    pub(super) fn hold_adapter(&self) -> bool {
        self.owner.as_ref().and_then(|owner| owner.adapter.as_ref()).is_none_or(|adapter| adapter.hold_fast())
    }

    pub(super) fn tell_adapter(&self, committed: bool) {
        if let Some(adapter) = self.owner.as_ref().and_then(|owner| owner.adapter.as_ref()) {
            if committed { adapter.commit() } else { adapter.let_go() }
        }
    }
}

/// As [`named`]; one that is loaded already keeps its name.
fn adapter_named(file: &File, passed: &mut Vec<GuestFd>) -> Result<(String, Option<GuestFd>), String> {
    let File::Passed { name, .. } = file else { return named(file, passed) };
    let mut adapters = ADAPTERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, known)) = adapters.iter().find(|(known, _)| known == name) {
        return Ok((known.clone(), None));
    }
    let (path, open) = named(file, passed)?;
    adapters.push((name.clone(), path.clone()));
    Ok((path, open))
}
