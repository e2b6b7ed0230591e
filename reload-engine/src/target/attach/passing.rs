//! Handing the agent over to a target whose files are not ours: a copy of the library in memory, and a socket that is bound
//! where we find it. Both travel as descriptors through a pair of sockets that the target's thread has made.
//!
//! Nothing of ours gets a name among the target's files, and the target gets no directory of ours, which would lead it out of
//! its container. When which descriptor is needed is decided by the helper.

use std::{
    fs::{self, File},
    io::{self, Seek},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    libc,
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind, sendmsg, socket},
    },
    unistd::Pid,
};
use reload_protocol::START_SYMBOL;

use super::{memory::Memory, modules};
use crate::target::{link::within_reach, maps::Mapping};

/// How the kernel names files in memory.
const IN_MEMORY: &str = "memfd:";

/// What is handed over.
pub struct Parcel {
    library: OwnedFd,
    listener: OwnedFd,
    /// Of the library's file.
    name: String,
}

impl Parcel {
    /// Copies the agent's library and binds `socket`, in the place of an older one. It is the agent that will listen.
    pub fn of(library: &Path, socket: &Path) -> io::Result<Parcel> {
        let name = library.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Parcel { library: sealed_copy(library, &name)?, listener: bound(socket)?, name })
    }

    /// Sends both through the socket that thread `thread` of process `process` knows as `number`.
    pub fn send(&self, process: u32, thread: Pid, number: i32) -> io::Result<()> {
        let theirs = taken(process, thread, number)?;
        let both = [self.library.as_raw_fd(), self.listener.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&both)];
        sendmsg::<()>(theirs.as_raw_fd(), &[io::IoSlice::new(b"a")], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }

    /// Where the agent begins, if the target has loaded this very library that way: it was forked by one that has an agent.
    pub fn loaded(&self, memory: &Memory, mappings: &[Mapping]) -> Option<u64> {
        let name = format!("{IN_MEMORY}{}", self.name);
        modules::loaded(memory, mappings)
            .iter()
            .find(|module| module.name == name)
            .and_then(|module| module.symbol(memory, START_SYMBOL))
    }
}

/// What it holds cannot be changed any more: whoever has it open could otherwise change it for others.
fn sealed_copy(library: &Path, name: &str) -> io::Result<OwnedFd> {
    let name = std::ffi::CString::new(name)?;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Newer kernels want to be told that it is to be run, older ones do not know how (`memfd_create(2)`).
    let executable = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let memory = memfd_create(name.as_c_str(), flags | executable).or_else(|_| memfd_create(name.as_c_str(), flags))?;
    let mut copy = File::from(memory);
    io::copy(&mut File::open(library)?, &mut copy)?;
    copy.rewind()?;
    let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy.into())
}

fn bound(path: &Path) -> io::Result<OwnedFd> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    within_reach(path, |path| Ok(bind(socket.as_raw_fd(), &UnixAddr::new(path.as_os_str().as_bytes())?)?))?;
    Ok(socket)
}

/// A duplicate of another process's descriptor (`pidfd_getfd(2)`).
fn taken(process: u32, thread: Pid, number: i32) -> io::Result<OwnedFd> {
    /// `PIDFD_THREAD`, since Linux 6.9: a thread may have a table of its own.
    const OF_THREAD: libc::c_uint = libc::O_EXCL as libc::c_uint;
    let open = |id: libc::c_long, flags: libc::c_uint| {
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, id, flags) };
        // SAFETY: the kernel has just handed the number to us.
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }) }
    };
    let holder = open(thread.as_raw().into(), OF_THREAD).or_else(|_| open(process.into(), 0))?;
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, holder.as_raw_fd(), number, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just handed the number to us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let (ours, theirs) = (format!("/proc/self/fd/{}", fd.as_raw_fd()), format!("/proc/{thread}/fd/{number}"));
    // "socket:[inode]"
    if fs::read_link(ours)? != fs::read_link(theirs)? {
        return Err(io::Error::other("its thread has descriptors of its own, which this kernel does not give out"));
    }
    Ok(fd)
}
