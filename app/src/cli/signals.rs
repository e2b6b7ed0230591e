//! Signals as values on a channel: passed on to a launched target, or the end of `watch`.

use std::{io, thread};

use crossbeam_channel::{Receiver, unbounded};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::SignalFd,
};

/// `si_code` of a signal that the terminal sent to the whole foreground process group (sigaction(2)).
const SI_KERNEL: i32 = 0x80;

/// One signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    pub signal: Signal,
    /// From the terminal, so that every process of the foreground got it.
    pub from_terminal: bool,
}

/// Signals that somebody may send to a program they started.
const PASSED_ON: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// Receives these signals from now on instead of ending by them. Must be called before other threads are started: they
/// inherit that the signals are blocked. So do programs, unless they are launched as targets.
///
/// # Errors
/// The process has no file descriptors left.
pub fn receive() -> io::Result<Receiver<Arrived>> {
    let mut set = SigSet::empty();
    for signal in PASSED_ON {
        set.add(signal);
    }
    set.thread_block()?;
    let signals = SignalFd::new(&set)?;
    let (sender, receiver) = unbounded();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        while let Ok(information) = signals.read_signal() {
            let Some(information) = information else { continue };
            let Ok(signal) = Signal::try_from(information.ssi_signo as i32) else { continue };
            let from_terminal = information.ssi_code == SI_KERNEL;
            if sender.send(Arrived { signal, from_terminal }).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// Whether the signal asks a program to end.
pub fn asks_to_end(signal: Signal) -> bool {
    matches!(signal, Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP | Signal::SIGQUIT)
}
