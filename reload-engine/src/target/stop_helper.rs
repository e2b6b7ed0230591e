//! The stop helper: a process that stops a target's threads from outside and drives the agent's commit.
//!
//! Whatever happens to it, the kernel lets its tracees go: it carries a watchdog that ends it should a stop take too long. It
//! goes on to the next job, warm, unless a thread is still its tracee after this one: only its end releases that.

use std::{
    fmt::Display,
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{MsgFlags, recv},
    unistd::Pid,
};
use reload_protocol::{FromAgent, Range, Reply, Request, VERSION, commit, moment, receive, send};
use serde::{Deserialize, Serialize};

use super::{
    halt::{Halt, Step},
    helper::Controller,
    link,
    process::why_not_traceable,
    space::Space,
    threads::{Obstacle, Stopped, Threads},
};
use crate::memory;

/// The hidden first argument.
pub(super) const ARGUMENT: &str = "__stop-target";
/// For stopping every thread, and for moving those that stand in the way. On a loaded machine a thread may have to wait for
/// a processor before it can stop; then the others are released and it is tried again.
const STOPPING: Duration = Duration::from_millis(60);
/// Longest time from the first seized thread to the last released one, in microseconds. When it is over the helper dies
/// and the threads run. The last resort: long after [`STOPPING`], since a helper that dies before it has collected
/// every stop leaves calls that failed with EINTR. By the time that only the agent is waited for, all are collected.
const WATCHDOG: libc::suseconds_t = 250_000;
/// How often a stop is tried where a thread stands in the way.
const ATTEMPTS: u32 = 100;
/// The memory that a file with so many functions takes is at hand: for what the agent tells of a commit of some thousand
/// patches, and for the list of threads.
const FUNCTIONS: usize = 1000;
/// For the agent's answers outside a stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the helper is told, a line each.
#[derive(Serialize, Deserialize)]
pub(super) enum Order {
    /// Get ready to stop this target; not answered. It replaces what was prepared before.
    Prepare(Job),
    /// Stop it, and have the agent commit the transaction.
    Commit { transaction: u64 },
}

/// Whom to stop.
#[derive(Serialize, Deserialize)]
pub(super) struct Job {
    pub pid: u32,
    /// The target's folder in the store, where its agent listens.
    pub folder: PathBuf,
}

/// How a commit ended, one line.
#[derive(Serialize, Deserialize)]
pub(super) struct Answer {
    pub outcome: Outcome,
    /// The helper takes no more orders.
    pub last: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Outcome {
    Committed {
        revision: u64,
        pause_ns: u64,
        attempts: u32,
        threads: usize,
    },
    /// The target cannot be traced; nothing was stopped.
    NotTraceable {
        reason: String,
    },
    /// Nothing was changed; it may work another time.
    NotNow {
        reason: String,
    },
    /// A module was closed since this was planned; nothing was changed.
    ModuleClosed,
    /// Nothing was changed.
    Failed {
        reason: String,
    },
}

/// Carries out orders until there are none, or none can be taken.
pub(super) fn serve(controller: &mut Controller) -> io::Result<()> {
    moment::prepare();
    memory::ready_for(FUNCTIONS);
    let mut prepared: Option<(Job, Result<Ready, Outcome>)> = None;
    while let Some(order) = controller.next_order()? {
        match order {
            Order::Prepare(job) => {
                // The agent need not listen to two of us.
                drop(prepared.take());
                let ready = Ready::prepare(&job);
                prepared = Some((job, ready));
            }
            Order::Commit { transaction } => {
                // The agent may have been too busy with the target's loader; now it waits for us.
                let ready = prepared.take().map(|(job, ready)| ready.or_else(|_| Ready::prepare(&job)));
                let answer = match ready {
                    Some(Ok(mut ready)) => {
                        let outcome = ready.commit(transaction).unwrap_or_else(failed);
                        Answer { outcome, last: !ready.threads.are_released() }
                    }
                    Some(Err(outcome)) => Answer { outcome, last: false },
                    None => Answer { outcome: failed("it was not told whom to stop"), last: false },
                };
                controller.answer(&answer)?;
                if answer.last {
                    break;
                }
            }
        }
    }
    Ok(())
}

fn failed(reason: impl Display) -> Outcome {
    Outcome::Failed { reason: format!("the stop helper: {reason}") }
}

/// The agent's part must not wait for a processor either. It goes back to its own priority by itself.
fn hasten(agent: &[u32]) {
    if let Some(&thread) = agent.first() {
        let lowest = libc::sched_param { sched_priority: 1 };
        // SAFETY: changes how a thread is scheduled, best effort.
        unsafe { libc::sched_setscheduler(thread as libc::pid_t, libc::SCHED_FIFO, &lowest) };
    }
}

/// A connection to the agent, and its target's threads, of which none is seized yet.
struct Ready {
    pid: u32,
    agent: UnixStream,
    agent_threads: Vec<u32>,
    threads: Threads,
    halt: Halt,
}

impl Ready {
    fn prepare(job: &Job) -> Result<Ready, Outcome> {
        let (agent, agent_threads) = Ready::connect(job).map_err(failed)?;
        let ids = agent_threads.iter().map(|&id| Pid::from_raw(id as i32)).collect();
        let threads = Threads::of(Pid::from_raw(job.pid as i32), ids).map_err(refusal)?;
        Ok(Ready { pid: job.pid, agent, agent_threads, threads, halt: Halt::from_environment() })
    }

    fn connect(job: &Job) -> io::Result<(UnixStream, Vec<u32>)> {
        let mut agent = link::open(&job.folder, job.pid)?;
        agent.set_read_timeout(Some(PATIENCE))?;
        agent.set_write_timeout(Some(PATIENCE))?;
        let Reply::Welcome(welcome) = ask(&mut agent, &Request::Hello { version: VERSION })? else {
            return Err(io::Error::other("the agent did not answer Hello"));
        };
        let agent_threads = Space::of(job.pid).threads(&welcome.agent_threads);
        Ok((agent, agent_threads))
    }

    fn commit(&mut self, transaction: u64) -> io::Result<Outcome> {
        let Ready { pid, agent, agent_threads, threads, halt } = self;
        let mut reason = String::new();
        for attempt in 1..=ATTEMPTS {
            send(agent, &Request::Commit { transaction })?;
            // While the agent is being woken.
            let untraceable = why_not_traceable(*pid);
            let forbidden = match reply(agent)? {
                Reply::Committing { forbidden } => forbidden,
                Reply::Failed { message } => return Ok(Outcome::Failed { reason: message }),
                Reply::Closed => return Ok(Outcome::ModuleClosed),
                other => return Ok(Outcome::Failed { reason: format!("the agent answered Commit with {other:?}") }),
            };
            if let Some(reason) = untraceable {
                // Its answers go with the connection.
                let _ = agent.write_all(&[commit::ABORT]);
                return Ok(Outcome::NotTraceable { reason });
            }
            hasten(agent_threads);
            // From the first seized thread on nothing here may last.
            arm_watchdog();
            if let Err(obstacle) = threads.seize() {
                disarm_watchdog();
                agent.write_all(&[commit::ABORT])?;
                return Ok(refusal(obstacle));
            }
            let stop = stop_and_commit(threads, agent, &forbidden, *halt);
            disarm_watchdog();
            threads.settle();
            let slow = matches!(stop, Err(Stop::Obstacle(Obstacle::Slow)));
            let in_handler = matches!(stop, Err(Stop::InHandler));
            let (stopped, pause) = match stop {
                Ok(stop) => stop,
                // The agent's reply to that follows.
                Err(Stop::Obstacle(Obstacle::Slow) | Stop::InHandler) => (0, Duration::ZERO),
                Err(Stop::Obstacle(obstacle)) => return Ok(refusal(obstacle)),
                Err(Stop::Link(error)) => return Err(error),
            };
            match reply(agent)? {
                Reply::Done { revision } => {
                    let pause_ns = pause.as_nanos() as u64;
                    return Ok(Outcome::Committed { revision, pause_ns, attempts: attempt, threads: stopped });
                }
                Reply::NotNow { .. } if slow => reason = format!("its threads did not stop within {STOPPING:?}"),
                Reply::NotNow { .. } if in_handler => {
                    reason = "a thread is in a signal handler, which interrupted it inside bytes to be written".into();
                }
                Reply::NotNow { reason: why } => reason = why,
                Reply::Failed { message } => return Ok(Outcome::Failed { reason: message }),
                Reply::Closed => return Ok(Outcome::ModuleClosed),
                other => return Ok(Outcome::Failed { reason: format!("the agent ended the commit with {other:?}") }),
            }
            // Some other time of day: whoever stands there every millisecond is met at another phase.
            thread::sleep(Duration::from_micros(1000 + u64::from(attempt) * 997 % 4000));
        }
        Ok(Outcome::NotNow { reason: format!("{reason} ({ATTEMPTS} attempts)") })
    }
}

/// What ended a stop early. The agent has been told to abort, or is gone.
enum Stop {
    Obstacle(Obstacle),
    /// A thread would return from a signal handler into what is to be written. It cannot be moved out from there.
    InHandler,
    Link(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Link(error)
    }
}

/// The stop itself: from here to the return nothing allocates. On `Ok` the agent's reply frame follows; how many threads
/// were stopped, and for how long.
fn stop_and_commit(
    threads: &mut Threads,
    agent: &mut UnixStream,
    forbidden: &[Range],
    halt: Halt,
) -> Result<(usize, Duration), Stop> {
    let deadline = Instant::now() + STOPPING;
    let stopped = threads.stop(deadline).and_then(|mut stopped| {
        stopped.move_out(|pc| contains(forbidden, pc), deadline)?;
        Ok(stopped)
    });
    let mut stopped = match stopped {
        Ok(stopped) => stopped,
        Err(obstacle) => {
            agent.write_all(&[commit::ABORT])?;
            answer(agent)?;
            return Err(Stop::Obstacle(obstacle));
        }
    };
    let (count, since) = (stopped.count(), stopped.since);
    commit_stopped(&mut stopped, agent, forbidden, halt)?;
    drop(stopped);
    Ok((count, since.elapsed()))
}

/// Has the agent write, if no thread stands in the way.
fn commit_stopped(
    stopped: &mut Stopped<'_>,
    agent: &mut UnixStream,
    forbidden: &[Range],
    halt: Halt,
) -> Result<(), Stop> {
    halt.at(Step::Stopped);
    agent.write_all(&[commit::CLOSE])?;
    // While the agent is at it.
    let in_the_way = stopped.any_at(|pc| contains(forbidden, pc));
    let in_handler = !in_the_way && stopped.any_returns_to(|pc| contains(forbidden, pc));
    if answer(agent)? != commit::CLOSED {
        return Ok(());
    }
    halt.at(Step::Closed);
    if in_the_way || in_handler {
        agent.write_all(&[commit::ABORT])?;
        answer(agent)?;
        return if in_handler { Err(Stop::InHandler) } else { Ok(()) };
    }
    agent.write_all(&[commit::GO])?;
    halt.at(Step::Gone);
    answer(agent)?;
    halt.at(Step::Done);
    Ok(())
}

/// `ranges` is ascending and merged.
fn contains(ranges: &[Range], address: u64) -> bool {
    let after = ranges.partition_point(|range| range.start <= address);
    after > 0 && address - ranges[after - 1].start < ranges[after - 1].len
}

fn answer(agent: &mut UnixStream) -> io::Result<u8> {
    let peek = || recv(agent.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
    moment::look(|| (peek() != Err(Errno::EAGAIN)).then_some(()));
    let mut byte = [0];
    agent.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn ask(agent: &mut UnixStream, request: &Request) -> io::Result<Reply> {
    send(agent, request)?;
    reply(agent)
}

fn reply(agent: &mut UnixStream) -> io::Result<Reply> {
    loop {
        if let FromAgent::Reply(reply) = receive(agent)? {
            return Ok(reply);
        }
    }
}

fn refusal(obstacle: Obstacle) -> Outcome {
    match obstacle {
        Obstacle::NotPermitted { thread } => {
            Outcome::NotTraceable { reason: format!("tracing its thread {thread} is not permitted") }
        }
        Obstacle::Slow => Outcome::NotNow { reason: "its threads did not stop in time".into() },
        Obstacle::TooMany => Outcome::NotNow { reason: "threads are started faster than they can be stopped".into() },
        Obstacle::Kernel { doing, errno } => Outcome::Failed { reason: format!("{doing}: {errno}") },
    }
}

/// The default action of SIGALRM ends this process, and the kernel then releases its tracees.
fn arm_watchdog() {
    set_timer(WATCHDOG);
}

fn disarm_watchdog() {
    set_timer(0);
}

fn set_timer(microseconds: libc::suseconds_t) {
    let value = libc::timeval { tv_sec: 0, tv_usec: microseconds };
    let timer = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value: value };
    // SAFETY: a valid timer; the earlier one is not asked for. It cannot fail with these values.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use reload_protocol::Range;

    use super::contains;

    #[test]
    fn addresses_in_ranges() {
        let ranges = [Range { start: 10, len: 2 }, Range { start: 20, len: 1 }];
        let inside: Vec<u64> = (0..30).filter(|&address| contains(&ranges, address)).collect();
        assert_eq!(inside, [10, 11, 20]);
    }
}
