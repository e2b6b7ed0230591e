//! Another process's memory, through `/proc/PID/mem`: readable and writable for whoever may trace it, whatever the protection of
//! the pages.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
};

pub struct Memory(File);

impl Memory {
    pub fn of(pid: u32) -> io::Result<Memory> {
        OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem")).map(Memory)
    }

    /// All of `len` bytes at `address`, or an error.
    pub fn read(&self, address: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.0.read_exact_at(&mut bytes, address)?;
        Ok(bytes)
    }

    /// As much of `len` bytes at `address` as there is.
    pub fn read_some(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let read = self.0.read_at(&mut bytes, address).unwrap_or(0);
        bytes.truncate(read);
        bytes
    }

    pub fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, address).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    /// The text up to its terminating zero, at most `most` bytes.
    pub fn text(&self, address: u64, most: usize) -> String {
        let bytes = self.read_some(address, most);
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    pub fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, address)
    }
}
