//! What the agent sends: answers to whoever has asked, notices to whoever listens.
//!
//! An answer is read by the thread that waits for it, since another one in between would have to be woken first. Notices come
//! unasked, and a thread waits for those that does nothing while somebody asks.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixStream,
    },
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        socket::{MsgFlags, recv},
    },
};
use reload_protocol::{FromAgent, Notice, Reply, take};

/// Read at once.
const CHUNK: usize = 64 << 10;

/// The receiving end of a connection.
#[derive(Debug)]
pub struct Incoming(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stream: UnixStream,
    /// Wakes the listening thread, once each time that it is [armed](Shared::arm).
    wake: Epoll,
    inbox: Mutex<Inbox>,
}

/// What has arrived.
#[derive(Debug)]
struct Inbox {
    chunk: Box<[u8]>,
    input: Vec<u8>,
    /// `None`: the connection has ended.
    notices: Option<Sender<Notice>>,
}

impl Incoming {
    /// Starts the listening thread, which ends with the connection. The channel is closed then.
    pub fn listen(stream: UnixStream, name: String) -> io::Result<(Incoming, Receiver<Notice>)> {
        let (notices, heard) = unbounded();
        let wake = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        wake.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, 0))?;
        let inbox = Mutex::new(Inbox { chunk: vec![0; CHUNK].into(), input: Vec::new(), notices: Some(notices) });
        let shared = Arc::new(Shared { stream, wake, inbox });
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name(name).spawn(move || theirs.listen())?;
        Ok((Incoming(shared), heard))
    }

    /// Begins a question: until the value is dropped, this thread alone reads.
    pub fn turn(&self) -> Turn<'_> {
        let inbox = self.0.inbox();
        self.0.arm(EpollFlags::empty());
        Turn { shared: &self.0, inbox }
    }
}

/// One question and its answer.
pub struct Turn<'a> {
    shared: &'a Shared,
    inbox: MutexGuard<'a, Inbox>,
}

impl Turn<'_> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// `TimedOut` after `patience`; `UnexpectedEof`, `InvalidData` and others when the connection has ended, or must.
    pub fn reply(&mut self, patience: Duration) -> io::Result<Reply> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(reply) = self.inbox.next_reply()? {
                return Ok(reply);
            }
            await_readable(&self.shared.stream, deadline)?;
            self.inbox.read(&self.shared.stream)?;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // What came together with the answer would not wake the listening thread.
        let _ = self.inbox.pass_on();
        self.shared.arm(EpollFlags::EPOLLIN);
    }
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the listening thread woken by the next of `events`; the end of the connection always wakes it. Under the lock, so
    /// that who holds it decides.
    fn arm(&self, events: EpollFlags) {
        let mut event = EpollEvent::new(events | EpollFlags::EPOLLONESHOT, 0);
        // It cannot fail: the stream has been added, and stays open as long as this value.
        let _ = self.wake.modify(&self.stream, &mut event);
    }

    fn listen(&self) {
        loop {
            match self.wake.wait(&mut [EpollEvent::empty()], EpollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(_) => return,
            }
            // While somebody asks, this waits.
            let mut inbox = self.inbox();
            if inbox.take_notices(&self.stream).is_err() {
                return;
            }
            self.arm(EpollFlags::EPOLLIN);
        }
    }
}

impl Inbox {
    /// Reads what is there; `None` if nothing is. After an error there is nothing more to come.
    fn read(&mut self, stream: &UnixStream) -> io::Result<Option<()>> {
        match recv(stream.as_raw_fd(), &mut self.chunk, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => self.end(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => {
                self.input.extend_from_slice(&self.chunk[..got]);
                Ok(Some(()))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(error) => self.end(error.into()),
        }
    }

    fn end<T>(&mut self, error: io::Error) -> io::Result<T> {
        self.notices = None;
        Err(error)
    }

    /// The next answer among what has been read, if it is complete; notices before it are passed on.
    fn next_reply(&mut self) -> io::Result<Option<Reply>> {
        loop {
            match take(&mut self.input) {
                Ok(Some(FromAgent::Reply(reply))) => return Ok(Some(reply)),
                Ok(Some(FromAgent::Notice(notice))) => {
                    // Nobody may be listening.
                    let _ = self.notices.as_ref().map(|notices| notices.send(notice));
                }
                Ok(None) => return Ok(None),
                Err(error) => return self.end(error),
            }
        }
    }

    /// Passes on all notices that have been read. An answer among them has come too late for whoever had asked.
    fn pass_on(&mut self) -> io::Result<()> {
        while self.next_reply()?.is_some() {}
        Ok(())
    }

    /// Reads and passes on all that is there.
    fn take_notices(&mut self, stream: &UnixStream) -> io::Result<()> {
        while self.read(stream)?.is_some() {
            self.pass_on()?;
        }
        Ok(())
    }
}

fn await_readable(stream: &UnixStream, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLIN)], left) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::net::UnixStream, time::Duration};

    use reload_protocol::{FromAgent, Notice, Reply, send};

    use super::Incoming;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn frame(message: &FromAgent) -> Vec<u8> {
        let mut frame = Vec::new();
        send(&mut frame, message).expect("memory takes all");
        frame
    }

    #[test]
    fn a_notice_beside_an_answer_is_told_at_once() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        let (incoming, notices) = Incoming::listen(ours, "link of a test".into()).expect("it listens");
        let answer = frame(&FromAgent::Reply(Reply::Done { revision: 3 }));
        let notice = frame(&FromAgent::Notice(Notice::LedgerChanged { revision: 4 }));
        let mut turn = incoming.turn();
        // In one piece, so that one read takes both.
        theirs.write_all(&[&answer[..], &notice].concat()).expect("written");
        assert_eq!(turn.reply(PATIENCE).expect("it is there"), Reply::Done { revision: 3 });
        drop(turn);
        assert_eq!(notices.recv_timeout(PATIENCE), Ok(Notice::LedgerChanged { revision: 4 }));
        // Unasked, in two pieces.
        theirs.write_all(&notice[..5]).expect("written");
        theirs.write_all(&notice[5..]).expect("written");
        assert_eq!(notices.recv_timeout(PATIENCE), Ok(Notice::LedgerChanged { revision: 4 }));
        drop(theirs);
        assert!(notices.recv_timeout(PATIENCE).is_err(), "the channel ends with the connection");
        assert!(incoming.turn().reply(PATIENCE).is_err(), "and so does who asks");
    }
}
