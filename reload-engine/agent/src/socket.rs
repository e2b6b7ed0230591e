//! The agent's socket: its folder, who may connect, and sending that never hangs for good.

use std::{
    ffi::CString,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::{
            fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
    time::{Duration, Instant},
};

use reload_protocol::{MOST_PASSED, SOCKET_NAME};

use crate::{errno, fd::GuestFd};

/// `sun_path` has 108 bytes; longer paths go through the folder's descriptor.
const LONGEST_PATH: usize = 100;
/// Connections that have not been accepted yet.
const WAITING: libc::c_int = 64;
/// How long a reply may block on a peer that does not read.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// The process and the folder it listens in; never freed. A forked child with an agent of its own has another.
static LISTENING: AtomicPtr<(u32, PathBuf)> = AtomicPtr::new(ptr::null_mut());

fn listening() -> Option<&'static (u32, PathBuf)> {
    // SAFETY: null, or a box that was leaked.
    unsafe { LISTENING.load(Ordering::Acquire).as_ref() }
}

/// Makes `root/PID` (0700) and listens on `agent.sock` in it.
pub fn listen(root: &Path) -> io::Result<GuestFd> {
    let root_metadata = fs::symlink_metadata(root)?;
    if !root_metadata.is_dir() || !owned(root_metadata.uid()) || root_metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other("the store's root is not a private folder"));
    }
    let process = std::process::id();
    let folder = root.join(process.to_string());
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let directory = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(&folder)?;
    if directory.metadata()?.uid() != effective_uid() {
        return Err(io::Error::other("the target's folder belongs to somebody else"));
    }
    directory.set_permissions(Permissions::from_mode(0o700))?;
    remove_old_socket(&directory)?;
    let listener = bind(&folder, &directory)?;
    if listening().is_none_or(|(before, _)| *before != process) {
        LISTENING.store(Box::into_raw(Box::new((process, folder))), Ordering::Release);
    }
    listener.set_nonblocking(true)?;
    GuestFd::adopt(OwnedFd::from(listener))
}

/// Listens on a socket that was bound by somebody else. Who connects sees this process at the other end (`unix(7)`, SO_PEERCRED).
pub fn listen_on(socket: OwnedFd) -> io::Result<GuestFd> {
    // SAFETY: no memory is involved.
    if unsafe { libc::listen(socket.as_raw_fd(), WAITING) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let listener = UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    GuestFd::adopt(OwnedFd::from(listener))
}

/// Removes the socket, and the folder if nothing else is in it. Does nothing in a forked child, which has no agent.
pub fn remove() {
    if let Some((process, folder)) = listening()
        && *process == std::process::id()
    {
        // Whatever cannot be removed is swept when the process is gone.
        let _ = fs::remove_file(folder.join(SOCKET_NAME));
        let _ = fs::remove_dir(folder);
    }
}

/// A predecessor with this process id, or the program that called `exec`, has left it.
fn remove_old_socket(directory: &File) -> io::Result<()> {
    let name = CString::new(SOCKET_NAME).map_err(io::Error::other)?;
    // SAFETY: an open folder's descriptor and a terminated name.
    if unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_ptr(), 0) } != 0 && errno() != libc::ENOENT {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn bind(folder: &Path, directory: &File) -> io::Result<UnixListener> {
    let path = folder.join(SOCKET_NAME);
    if path.as_os_str().len() <= LONGEST_PATH {
        return UnixListener::bind(path);
    }
    UnixListener::bind(format!("/proc/thread-self/fd/{}/{SOCKET_NAME}", directory.as_raw_fd()))
}

/// The next waiting connection of somebody who may drive this agent, and the process at the other end.
pub fn accept(listener: &GuestFd) -> io::Result<Option<(GuestFd, u32)>> {
    // SAFETY: accepts on our own listener; no address is asked for.
    let raw = unsafe {
        libc::accept4(listener.raw(), ptr::null_mut(), ptr::null_mut(), libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
    };
    if raw < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
    }
    // SAFETY: the kernel has just handed the number to us.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    let peer = peer(fd.as_raw_fd())?;
    if !owned(peer.uid) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(Some((GuestFd::adopt(fd)?, peer.pid as u32)))
}

fn peer(fd: RawFd) -> io::Result<libc::ucred> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` has the `len` bytes that SO_PEERCRED writes.
    let status =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, ptr::from_mut(&mut peer).cast(), &mut len) };
    if status == 0 { Ok(peer) } else { Err(io::Error::last_os_error()) }
}

/// Only the same user and root may drive an agent, or own what it relies on.
fn owned(uid: u32) -> bool {
    uid == 0 || uid == effective_uid()
}

fn effective_uid() -> u32 {
    // SAFETY: cannot fail and touches no memory.
    unsafe { libc::geteuid() }
}

/// Room for the descriptors that come along: a header and the kernel's limit (SCM_MAX_FD).
#[repr(C, align(8))]
struct Ancillary([u8; 16 + 253 * size_of::<RawFd>() + 4]);

/// What is there to read, without waiting: appended to `input`, and descriptors that came along to `passed`. `Ok(false)` when
/// the peer is gone.
pub fn receive_available(
    fd: &GuestFd,
    input: &mut Vec<u8>,
    passed: &mut Vec<GuestFd>,
    most: usize,
) -> io::Result<bool> {
    let mut chunk = [0u8; 16 << 10];
    let mut ancillary = Ancillary([0; _]);
    let mut taken = 0;
    while taken < most {
        let mut part = libc::iovec { iov_base: chunk.as_mut_ptr().cast(), iov_len: chunk.len() };
        // SAFETY: all zeroes is a valid `msghdr`.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        (message.msg_control, message.msg_controllen) = (ancillary.0.as_mut_ptr().cast(), ancillary.0.len());
        // SAFETY: `chunk` and `ancillary` are writable for the lengths that are told.
        let got = unsafe { libc::recvmsg(fd.raw(), &mut message, libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC) };
        if got >= 0 {
            take_descriptors(&message, passed)?;
        }
        match got {
            0 => return Ok(false),
            got if got > 0 => {
                taken += got as usize;
                input.extend_from_slice(&chunk[..got as usize]);
            }
            _ => match errno() {
                libc::EAGAIN => return Ok(true),
                libc::EINTR => {}
                error => return Err(io::Error::from_raw_os_error(error)),
            },
        }
    }
    Ok(true)
}

/// All that came are taken, so that those which are one too many are closed.
fn take_descriptors(message: &libc::msghdr, passed: &mut Vec<GuestFd>) -> io::Result<()> {
    let mut came = Vec::new();
    // SAFETY: a message that the kernel has filled in; the macros of cmsg(3) stay inside its control buffer.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(found) = header.as_ref() {
            if (found.cmsg_level, found.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let count = (found.cmsg_len - libc::CMSG_LEN(0) as usize) / size_of::<RawFd>();
                let numbers = libc::CMSG_DATA(found).cast::<RawFd>();
                came.extend((0..count).map(|index| OwnedFd::from_raw_fd(numbers.add(index).read_unaligned())));
            }
            header = libc::CMSG_NXTHDR(message, found);
        }
    }
    if message.msg_flags & libc::MSG_CTRUNC != 0 || passed.len() + came.len() > MOST_PASSED {
        return Err(io::Error::other("more descriptors than can be taken"));
    }
    for fd in came {
        passed.push(GuestFd::adopt(fd)?);
    }
    Ok(())
}

/// Sends all of `bytes`, waiting at most [`SEND_TIMEOUT`] in total; with `wait` false not at all.
pub fn send_all(fd: &GuestFd, mut bytes: &[u8], wait: bool) -> io::Result<()> {
    let deadline = Instant::now() + if wait { SEND_TIMEOUT } else { Duration::ZERO };
    while !bytes.is_empty() {
        // SAFETY: `bytes` is readable for its whole length.
        let sent = unsafe {
            libc::send(fd.raw(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        };
        if sent >= 0 {
            bytes = &bytes[sent as usize..];
            continue;
        }
        match errno() {
            libc::EINTR => {}
            libc::EAGAIN => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                let mut poll = libc::pollfd { fd: fd.raw(), events: libc::POLLOUT, revents: 0 };
                // SAFETY: one valid entry.
                unsafe { libc::poll(&mut poll, 1, left.as_millis().max(1) as libc::c_int) };
            }
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
    Ok(())
}
