//! The file system as a node sees it: the seam between the code that keeps bytes and what keeps them.
//!
//! # Contract
//! - [`RealVfs`] is the operating system; [`ModelVfs`] is an in-memory disk whose power can be cut. One
//!   conformance suite (`conformance.rs`) runs over both.
//! - Written bytes are durable only after a sync of the file, and names (created, renamed, removed) only
//!   after a [`Vfs::sync_dir`] of their directory.
//! - After a sync failed nobody knows what is on the disk. A later sync that succeeds says nothing about
//!   the bytes of the failed one, so a failed sync must never be retried: the process ends.
//! - A write that was not synced may survive a power cut in part, in units of [`SECTOR`] bytes at offsets
//!   divisible by it: each unit is either wholly there or not at all.
//! - Everything here blocks; nothing here is async.
//!
//! # Used by
//! `log`, and whatever else of a node keeps files of its own (identity, snapshots, the ballast file).
//! RocksDB is not under this seam; `state` has a model of its own.

mod model;
mod model_disk;
mod real;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod model_tests;

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use model::{Counts, ModelVfs};
pub use real::RealVfs;

/// Bytes that a power cut leaves wholly or not at all.
pub const SECTOR: usize = 512;

/// A file system.
///
/// Paths are of files unless the name of a method says otherwise. All errors are of the kinds that
/// `std::fs` gives: `NotFound`, `AlreadyExists`, `StorageFull` (at its capacity), and others for faults.
pub trait Vfs: Debug + Send + Sync + 'static {
    /// Opens a file to read and write it. `StorageFull`, `NotFound`, `AlreadyExists` as `how` says.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn VfsFile>>;

    /// Gives a file another name in the same directory, replacing the file that has it: atomic, and
    /// durable after [`Vfs::sync_dir`]. `InvalidInput` when the directories differ.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; open handles go on working. Durable after [`Vfs::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with everything below it; an absent one is no error. Durable after a
    /// [`Vfs::sync_dir`] of its parent.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Names of the files and directories in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Creates a directory and its missing parents, durably; one that is there is no error.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Space of the file system that holds a directory.
    fn space(&self, dir: &Path) -> io::Result<Space>;

    /// Takes the exclusive lock of a directory, held until the guard is dropped or the process ends.
    /// `WouldBlock` when another holder, in this process or another one, has it.
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn DirLock>>;
}

/// An open file. All offsets and lengths are in bytes.
pub trait VfsFile: Debug + Send + Sync + 'static {
    /// Fills `buffer` from `offset` on and returns how many bytes there were: fewer than the buffer's
    /// length only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes`, in one call to the operating system where it takes them in one. The file
    /// grows as needed. After an error any part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the file at least `len` bytes long, with space reserved on the disk; new bytes are zero.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Cuts the file, or lengthens it with zeros that take no space.
    fn truncate(&self, len: u64) -> io::Result<()>;

    fn len(&self) -> io::Result<u64>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Makes written bytes durable, and the length when it changed. Never retry a failed one.
    fn sync_data(&self) -> io::Result<()>;

    /// As [`VfsFile::sync_data`], with all of the file's attributes.
    fn sync_all(&self) -> io::Result<()>;

    /// Whether bytes that were allocated are quicker to write again once they were written: a disk's file system notes
    /// the first write to each of them.
    fn wants_filling(&self) -> bool {
        true
    }

    /// How long the next sync would take on a simulated disk; a driver that runs as a task waits this
    /// long on tokio's clock before it calls [`VfsFile::sync_data`]. Zero on a real disk, which takes
    /// its time inside the call.
    fn sync_delay(&self) -> Duration {
        Duration::ZERO
    }
}

/// The guard of [`Vfs::lock`].
pub trait DirLock: Debug + Send + Sync {}

/// How [`Vfs::open`] treats a file that is, or is not, there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// It must be there.
    Existing,
    /// Created empty unless it is there.
    Create,
    /// It must not be there.
    CreateNew,
}

/// Bytes of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What an unprivileged process may still use.
    pub free: u64,
    pub total: u64,
}

/// Fills the whole buffer, or fails with `UnexpectedEof`.
pub fn read_exact_at(file: &dyn VfsFile, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let wanted = buffer.len();
    let read = file.read_at(buffer, offset)?;
    if read == wanted {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{read} of {wanted} bytes at {offset}")))
}
