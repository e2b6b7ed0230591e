//! The process's own address space: its mappings, reservations, and reads that never fault.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    ptr,
};

use libc::{c_int, c_void};

pub const PAGE: u64 = 4096;
/// Below lies what the kernel keeps for itself (`vm.mmap_min_addr`), and more, so that null pointers stay invalid.
pub const LOWEST: u64 = 1 << 20;

pub fn page_floor(address: u64) -> u64 {
    address & !(PAGE - 1)
}

pub fn page_ceil(address: u64) -> u64 {
    page_floor(address.saturating_add(PAGE - 1))
}

/// One line of `/proc/self/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub range: Range<u64>,
    pub protection: c_int,
    pub stack: bool,
    /// Of the file behind it, 0 where there is none, and the file's path.
    pub inode: u64,
    pub path: String,
}

pub fn mappings() -> io::Result<Vec<Mapping>> {
    // Its size is not known before; without room it would be read in many small pieces.
    let mut text = String::with_capacity(64 << 10);
    File::open("/proc/self/maps")?.read_to_string(&mut text)?;
    Ok(parse_mappings(&text))
}

fn parse_mappings(text: &str) -> Vec<Mapping> {
    let mapping = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        let end = u64::from_str_radix(end, 16).ok()?;
        let letters = rest.as_bytes();
        let mut protection = 0;
        for (letter, bit) in [(b'r', libc::PROT_READ), (b'w', libc::PROT_WRITE), (b'x', libc::PROT_EXEC)] {
            if letters.iter().take(3).any(|&found| found == letter) {
                protection |= bit;
            }
        }
        // "address perms offset dev inode   path" (`filesystems/proc`).
        let mut fields = line.splitn(6, ' ').skip(4);
        let inode = fields.next().and_then(|inode| inode.parse().ok()).unwrap_or_default();
        let path = fields.next().unwrap_or_default().trim_start().to_owned();
        Some(Mapping { range: start..end, protection, stack: line.ends_with("[stack]"), inode, path })
    };
    text.lines().filter_map(mapping).collect()
}

/// The free ranges below and between the mappings, ascending, without the one under the main thread's stack: it must stay
/// free for the stack to grow into.
pub fn gaps(mappings: &[Mapping]) -> Vec<Range<u64>> {
    let below = mappings.first().map(|first| LOWEST..first.range.start);
    let pairs = mappings.windows(2).filter(|pair| !pair[1].stack);
    let between = pairs.map(|pair| pair[0].range.end..pair[1].range.start);
    below.into_iter().chain(between).filter(|gap| !gap.is_empty()).collect()
}

pub fn intersect(a: &Range<u64>, b: &Range<u64>) -> Range<u64> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

/// Whether the process has a limit on its address space (`ulimit -v`), which reservations would count against.
pub fn is_limited() -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is ours and lives through the call.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } == 0;
    known && limit.rlim_cur != libc::RLIM_INFINITY
}

/// Address space without memory behind it (`PROT_NONE`), at exactly `range` if that is free.
pub fn reserve_at(range: &Range<u64>) -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: NOREPLACE never touches an existing mapping.
    let got = unsafe {
        libc::mmap(range.start as *mut c_void, (range.end - range.start) as usize, libc::PROT_NONE, flags, -1, 0)
    };
    if got == libc::MAP_FAILED {
        return false;
    }
    if got as u64 != range.start {
        // A kernel before 4.17 takes the address as a hint.
        release(&(got as u64..got as u64 + (range.end - range.start)));
        return false;
    }
    true
}

/// The same wherever the kernel puts it, which is where it would put any mapping of that size.
pub fn reserve_anywhere(size: u64) -> Option<Range<u64>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh anonymous mapping.
    let got = unsafe { libc::mmap(ptr::null_mut(), size as usize, libc::PROT_NONE, flags, -1, 0) };
    (got != libc::MAP_FAILED).then(|| got as u64..got as u64 + size)
}

/// Gives back what [`reserve_at`] or [`reserve_anywhere`] took.
pub fn release(range: &Range<u64>) {
    // SAFETY: callers pass only ranges that they reserved and in which nobody has been given memory.
    unsafe { libc::munmap(range.start as *mut c_void, (range.end - range.start) as usize) };
}

/// `mprotect` by the bare system call: also used while other threads are stopped. The errno when it fails.
pub fn protect(range: &Range<u64>, protection: c_int) -> Result<(), i32> {
    let len = range.end - range.start;
    // SAFETY: changes the protection of pages whose contents callers have checked to be theirs to patch.
    let status = unsafe { libc::syscall(libc::SYS_mprotect, range.start, len, protection as libc::c_long) };
    if status == 0 { Ok(()) } else { Err(crate::errno()) }
}

/// Copies `len` bytes at `address`; `None` where not all of them are mapped and readable. Never faults.
pub fn read(address: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).ok()?;
    bytes.resize(len, 0);
    read_into(address, &mut bytes).then_some(bytes)
}

/// The same for many places, each a start and a length; empty where not all of one is mapped and readable.
pub fn read_each(places: &[(u64, usize)]) -> Vec<Vec<u8>> {
    places.chunks(MOST_PLACES).flat_map(read_together).collect()
}

/// What the kernel takes at once (`UIO_MAXIOV` of `<linux/uio.h>`).
const MOST_PLACES: usize = 1024;

fn read_together(places: &[(u64, usize)]) -> Vec<Vec<u8>> {
    let remote = |(address, len): &(u64, usize)| libc::iovec { iov_base: *address as *mut c_void, iov_len: *len };
    let remote: Vec<libc::iovec> = places.iter().map(remote).collect();
    let one_by_one = || places.iter().map(|(address, len)| read(*address, *len).unwrap_or_default()).collect();
    let total = places.iter().fold(0usize, |total, (_, len)| total.saturating_add(*len));
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(total).is_err() {
        return one_by_one();
    }
    bytes.resize(total, 0);
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let (one, none): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: as in `read_into`.
    let got = unsafe {
        libc::syscall(libc::SYS_process_vm_readv, libc::getpid(), &local, one, remote.as_ptr(), remote.len(), none)
    };
    if got < 0 || got as usize != bytes.len() {
        // It ends at the first place that cannot be read.
        return one_by_one();
    }
    let mut rest = &bytes[..];
    let piece = |(_, len): &(u64, usize)| {
        let (piece, behind) = rest.split_at(*len);
        rest = behind;
        piece.to_vec()
    };
    places.iter().map(piece).collect()
}

/// Reads through the kernel, which checks what a plain load cannot; allocates nothing.
pub fn read_into(address: u64, bytes: &mut [u8]) -> bool {
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: address as *mut c_void, iov_len: bytes.len() };
    let (one, none): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: `local` describes `bytes`; the kernel answers EFAULT where `remote` is not readable. A process may always
    // read itself. A short count means that a part is not mapped.
    let got = unsafe { libc::syscall(libc::SYS_process_vm_readv, libc::getpid(), &local, one, &remote, one, none) };
    got >= 0 && got as usize == bytes.len()
}

#[cfg(test)]
mod tests {
    use super::{gaps, page_ceil, page_floor, parse_mappings, read, read_each, release, reserve_anywhere, reserve_at};

    #[test]
    fn gaps_leave_the_stack_its_room() {
        let maps = "1000-3000 r-xp 00000000 08:01 7 /a b.so\n5000-6000 rw-p 00000000 00:00 0\n\
                    6000-7000 ---p 00000000 00:00 0\n9000-a000 rw-p 00000000 00:00 0 [stack]\n";
        let mappings = parse_mappings(maps);
        assert_eq!(mappings[0].protection, libc::PROT_READ | libc::PROT_EXEC);
        assert_eq!(mappings[2].protection, 0);
        assert_eq!(gaps(&mappings), vec![0x3000..0x5000]);
    }

    #[test]
    fn pages_round_both_ways() {
        assert_eq!((page_floor(0x1fff), page_ceil(0x1001), page_ceil(0x1000)), (0x1000, 0x2000, 0x1000));
    }

    #[test]
    fn a_reservation_is_exclusive_and_unreadable() {
        let range = reserve_anywhere(1 << 20).expect("address space");
        assert!(!reserve_at(&range));
        assert_eq!(read(range.start, 8), None);
        release(&range);
        // The other tests' threads map memory too, and may be quicker; not each time.
        let is_free_again = || {
            let range = reserve_anywhere(1 << 20).expect("address space");
            release(&range);
            let reserved = reserve_at(&range);
            if reserved {
                release(&range);
            }
            reserved
        };
        assert!((0..100).any(|_| is_free_again()));
        let value = 0x1234_5678_u32;
        let place = (&raw const value as u64, 4);
        assert_eq!(read(place.0, place.1), Some(value.to_ne_bytes().to_vec()));
        assert_eq!(read_each(&[place, (place.0 + 1, 2)]), [vec![0x78, 0x56, 0x34, 0x12], vec![0x56, 0x34]]);
        let hidden = reserve_anywhere(1 << 12).expect("address space");
        assert_eq!(read_each(&[place, (hidden.start, 8), (place.0, 1)])[1..], [vec![], vec![0x78]]);
        release(&hidden);
    }
}
