//! A disk in memory whose power can be cut, and that fails when it is told to.
//!
//! # Contract
//! - A seed decides everything that a real disk leaves open: what of the unsynced bytes and names survives
//!   a power cut ([`ModelVfs::crash`]), and what of a failed write or sync has reached the disk.
//! - Directories are durable when created; [`Vfs::remove_dir_all`] is durable at once.
//! - Handles and locks from before a [`ModelVfs::crash`] or [`ModelVfs::kill`] are dead: each use fails.
//! - Files stand in memory twice, so give the code above small files (a log: small segments); once on a
//!   [`ModelVfs::volatile`] disk.
//!
//! # Used by
//! The log's tests, the simulation, and development servers that keep their data in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind, Result};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::model_disk::{Content, Names, Rng};
use super::{DirLock, Open, Space, Vfs, VfsFile};

/// Capacity of a disk whose capacity was not set, in bytes.
const CAPACITY: u64 = 1 << 40;

/// The model disk; clones are the same disk.
#[derive(Debug, Clone)]
pub struct ModelVfs {
    disk: Arc<Mutex<Disk>>,
}

/// How often the model disk was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub writes: u64,
    /// Bytes of these writes.
    pub written: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// All calls that change the disk or make it durable: what [`ModelVfs::cut_power_after`] counts.
    pub changes: u64,
}

#[derive(Debug, Clone)]
struct Disk {
    rng: Rng,
    volatile: bool,
    /// Counted up when all handles die.
    generation: u64,
    dirs: BTreeSet<PathBuf>,
    names: Names,
    files: BTreeMap<u64, Content>,
    next_file: u64,
    locks: BTreeSet<PathBuf>,
    faults: Faults,
    counts: Counts,
}

#[derive(Debug, Clone)]
struct Faults {
    fail_next_sync: bool,
    fail_next_write: bool,
    fail_reads: Vec<(PathBuf, Range<u64>)>,
    sync_delay: Duration,
    capacity: u64,
    /// Changes that still succeed.
    power: Option<u64>,
}

impl ModelVfs {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        let faults = Faults {
            fail_next_sync: false,
            fail_next_write: false,
            fail_reads: Vec::new(),
            sync_delay: Duration::ZERO,
            capacity: CAPACITY,
            power: None,
        };
        let disk = Disk {
            rng: Rng(seed),
            volatile: false,
            generation: 0,
            dirs: BTreeSet::new(),
            names: Names::default(),
            files: BTreeMap::new(),
            next_file: 0,
            locks: BTreeSet::new(),
            faults,
            counts: Counts::default(),
        };
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    /// An empty disk whose bytes are to go with the process: files stand in memory once, and neither power cuts nor
    /// failures are ordered of it.
    pub fn volatile() -> Self {
        let disk = Self::new(0);
        disk.disk.lock().volatile = true;
        disk
    }

    /// Another disk with the same bytes and faults, and a future of its own.
    pub fn fork(&self, seed: u64) -> Self {
        let mut disk = self.disk.lock().clone();
        disk.rng = Rng(seed);
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    /// Cuts the power and gives it back: what was not synced survives in part, as the seed says; all
    /// handles and locks die; a power cut that was ordered is done.
    pub fn crash(&self) {
        let disk = &mut *self.disk.lock();
        disk.names.crash(&mut disk.rng);
        for file in disk.files.values_mut() {
            file.crash(&mut disk.rng);
        }
        disk.faults.power = None;
        disk.end_generation();
    }

    /// The process dies and the machine goes on: handles and locks die, unsynced bytes stay.
    pub fn kill(&self) {
        let disk = &mut *self.disk.lock();
        disk.faults.power = None;
        disk.end_generation();
    }

    /// After `changes` more changing calls (see [`Counts::changes`]) every call fails, until [`ModelVfs::crash`] or
    /// [`ModelVfs::kill`]: what the process did up to then is what it did before it died.
    pub fn cut_power_after(&self, changes: u64) {
        self.disk.lock().faults.power = Some(changes);
    }

    /// The next sync of a file fails, once. What of its bytes reached the disk is unknown, and no later
    /// sync writes them.
    pub fn fail_next_sync(&self) {
        self.disk.lock().faults.fail_next_sync = true;
    }

    /// The next write fails, once, with any part of it done.
    pub fn fail_next_write(&self) {
        self.disk.lock().faults.fail_next_write = true;
    }

    /// Reads that touch these bytes of a file fail from now on.
    pub fn fail_reads(&self, path: &Path, bytes: Range<u64>) {
        self.disk.lock().faults.fail_reads.push((path.to_owned(), bytes));
    }

    /// Reads work again.
    pub fn heal_reads(&self) {
        self.disk.lock().faults.fail_reads.clear();
    }

    /// How long a sync takes from now on; see [`VfsFile::sync_delay`].
    pub fn set_sync_delay(&self, delay: Duration) {
        self.disk.lock().faults.sync_delay = delay;
    }

    /// Bytes that fit on the disk.
    pub fn set_capacity(&self, bytes: u64) {
        self.disk.lock().faults.capacity = bytes;
    }

    /// Flips one bit (0..8) of a file, in what reads see and in what is durable. False when the file is not that long.
    pub fn flip(&self, path: &Path, offset: u64, bit: u8) -> bool {
        let disk = &mut *self.disk.lock();
        let Some(content) = disk.names.get(path).and_then(|file| disk.files.get_mut(&file)) else { return false };
        let offset = to_usize(offset);
        content.flip(offset, bit);
        offset < content.len()
    }

    pub fn counts(&self) -> Counts {
        self.disk.lock().counts
    }
}

impl Disk {
    fn end_generation(&mut self) {
        self.generation += 1;
        self.locks.clear();
        for file in self.files.values_mut() {
            file.handles = 0;
        }
        self.drop_unreachable();
    }

    fn drop_unreachable(&mut self) {
        let names = &self.names;
        self.files.retain(|file, content| content.handles > 0 || names.reach(*file));
    }

    fn powered(&self) -> Result<()> {
        if self.faults.power == Some(0) { Err(Error::other("the power is off")) } else { Ok(()) }
    }

    /// Counts a call that changes something.
    fn change(&mut self) -> Result<()> {
        self.powered()?;
        self.counts.changes += 1;
        if let Some(left) = &mut self.faults.power {
            *left -= 1;
        }
        Ok(())
    }

    fn used(&self) -> u64 {
        self.files.values().map(|file| file.reserved() as u64).sum()
    }

    /// Fails when a file of now `reserved` bytes cannot have `wanted`.
    fn fits(&self, reserved: usize, wanted: usize) -> Result<()> {
        let more = wanted.saturating_sub(reserved) as u64;
        if more > 0 && self.used() + more > self.faults.capacity {
            return Err(Error::new(ErrorKind::StorageFull, "the disk is full"));
        }
        Ok(())
    }

    fn has_dir(&self, dir: &Path) -> bool {
        dir.parent().is_none() || dir.as_os_str().is_empty() || self.dirs.contains(dir)
    }

    fn parent_exists(&self, path: &Path) -> Result<()> {
        match path.parent() {
            Some(parent) if self.has_dir(parent) => Ok(()),
            _ => Err(not_found(path)),
        }
    }
}

impl Vfs for ModelVfs {
    fn open(&self, path: &Path, how: Open) -> Result<Arc<dyn VfsFile>> {
        let disk = &mut *self.disk.lock();
        disk.powered()?;
        disk.parent_exists(path)?;
        let file = match (disk.names.get(path), how) {
            (Some(_), Open::CreateNew) => return Err(Error::new(ErrorKind::AlreadyExists, path.display().to_string())),
            (Some(file), Open::Existing | Open::Create) => file,
            (None, Open::Existing) => return Err(not_found(path)),
            (None, Open::Create | Open::CreateNew) => {
                disk.change()?;
                let file = disk.next_file;
                disk.next_file += 1;
                disk.files.insert(file, Content::new(disk.volatile));
                disk.names.link(path, file);
                file
            }
        };
        let content = disk.files.get_mut(&file).ok_or_else(|| not_found(path))?;
        content.handles += 1;
        Ok(Arc::new(ModelFile {
            disk: Arc::clone(&self.disk),
            path: path.to_owned(),
            file,
            generation: disk.generation,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let disk = &mut *self.disk.lock();
        if from.parent() != to.parent() {
            return Err(Error::new(ErrorKind::InvalidInput, "a file stays in its directory"));
        }
        if disk.names.get(from).is_none() {
            return Err(not_found(from));
        }
        disk.change()?;
        disk.names.rename(from, to);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let disk = &mut *self.disk.lock();
        if disk.names.get(path).is_none() {
            return Err(not_found(path));
        }
        disk.change()?;
        disk.names.unlink(path);
        disk.drop_unreachable();
        Ok(())
    }

    fn remove_dir_all(&self, dir: &Path) -> Result<()> {
        let disk = &mut *self.disk.lock();
        disk.change()?;
        let below: Vec<_> = disk.names.now().keys().filter(|path| path.starts_with(dir)).cloned().collect();
        for path in &below {
            disk.names.unlink(path);
        }
        for removed in disk.dirs.extract_if(.., |known| known.starts_with(dir)) {
            disk.names.sync(&removed);
        }
        disk.drop_unreachable();
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        let disk = self.disk.lock();
        disk.powered()?;
        if !disk.has_dir(dir) {
            return Err(not_found(dir));
        }
        let known = disk.names.now().keys().chain(&disk.dirs).filter(|path| path.parent() == Some(dir));
        let mut names: Vec<_> =
            known.filter_map(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        let disk = self.disk.lock();
        disk.powered()?;
        Ok(disk.has_dir(path) || disk.names.get(path).is_some())
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        let disk = &mut *self.disk.lock();
        disk.change()?;
        if dir.ancestors().any(|path| disk.names.get(path).is_some()) {
            return Err(Error::new(ErrorKind::AlreadyExists, dir.display().to_string()));
        }
        disk.dirs.extend(dir.ancestors().filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let disk = &mut *self.disk.lock();
        if !disk.has_dir(dir) {
            return Err(not_found(dir));
        }
        disk.change()?;
        disk.names.sync(dir);
        disk.drop_unreachable();
        Ok(())
    }

    fn space(&self, dir: &Path) -> Result<Space> {
        let disk = self.disk.lock();
        disk.powered()?;
        if !disk.has_dir(dir) {
            return Err(not_found(dir));
        }
        Ok(Space { free: disk.faults.capacity.saturating_sub(disk.used()), total: disk.faults.capacity })
    }

    fn lock(&self, dir: &Path) -> Result<Box<dyn DirLock>> {
        let disk = &mut *self.disk.lock();
        disk.powered()?;
        if !disk.has_dir(dir) {
            return Err(not_found(dir));
        }
        if !disk.locks.insert(dir.to_owned()) {
            return Err(Error::new(ErrorKind::WouldBlock, format!("{} is in use", dir.display())));
        }
        Ok(Box::new(ModelLock { disk: Arc::clone(&self.disk), dir: dir.to_owned(), generation: disk.generation }))
    }
}

#[derive(Debug)]
struct ModelFile {
    disk: Arc<Mutex<Disk>>,
    path: PathBuf,
    file: u64,
    generation: u64,
}

impl ModelFile {
    /// Runs on this file's content, when the handle is alive and the power on.
    fn with<R>(&self, run: impl FnOnce(&mut Disk) -> Result<R>) -> Result<R> {
        let disk = &mut *self.disk.lock();
        if disk.generation != self.generation {
            return Err(Error::other("the process that opened this file is dead"));
        }
        disk.powered()?;
        run(disk)
    }

    fn sync(&self) -> Result<()> {
        self.with(|disk| {
            disk.change()?;
            disk.counts.syncs += 1;
            let fails = std::mem::take(&mut disk.faults.fail_next_sync);
            let Some(content) = disk.files.get_mut(&self.file) else { return Err(not_found(&self.path)) };
            if fails {
                content.fail_sync(&mut disk.rng);
                return Err(Error::other("the sync failed"));
            }
            content.sync();
            Ok(())
        })
    }

    fn content<'a>(&self, disk: &'a mut Disk) -> Result<&'a mut Content> {
        disk.files.get_mut(&self.file).ok_or_else(|| not_found(&self.path))
    }
}

impl VfsFile for ModelFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.with(|disk| {
            let end = offset + buffer.len() as u64;
            let hit =
                |(path, bytes): &(PathBuf, Range<u64>)| *path == self.path && bytes.start < end && offset < bytes.end;
            if disk.faults.fail_reads.iter().any(hit) {
                return Err(Error::other("the read failed"));
            }
            Ok(self.content(disk)?.read(buffer, to_usize(offset)))
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.with(|disk| {
            disk.change()?;
            disk.counts.writes += 1;
            disk.counts.written += bytes.len() as u64;
            let offset = to_usize(offset);
            let reserved = self.content(disk)?.reserved();
            disk.fits(reserved, offset + bytes.len())?;
            let fails = std::mem::take(&mut disk.faults.fail_next_write);
            let Some(content) = disk.files.get_mut(&self.file) else { return Err(not_found(&self.path)) };
            if fails {
                content.write_in_part(bytes, offset, &mut disk.rng);
                return Err(Error::other("the write failed"));
            }
            content.write(bytes, offset);
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> Result<()> {
        self.with(|disk| {
            disk.change()?;
            let reserved = self.content(disk)?.reserved();
            disk.fits(reserved, to_usize(len))?;
            self.content(disk)?.reserve(to_usize(len));
            Ok(())
        })
    }

    fn truncate(&self, len: u64) -> Result<()> {
        self.with(|disk| {
            disk.change()?;
            self.content(disk)?.truncate(to_usize(len));
            Ok(())
        })
    }

    fn len(&self) -> Result<u64> {
        self.with(|disk| Ok(self.content(disk)?.len() as u64))
    }

    fn sync_data(&self) -> Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> Result<()> {
        self.sync()
    }

    fn wants_filling(&self) -> bool {
        !self.disk.lock().volatile
    }

    fn sync_delay(&self) -> Duration {
        self.disk.lock().faults.sync_delay
    }
}

impl Drop for ModelFile {
    fn drop(&mut self) {
        let disk = &mut *self.disk.lock();
        if disk.generation != self.generation {
            return;
        }
        if let Some(content) = disk.files.get_mut(&self.file) {
            content.handles = content.handles.saturating_sub(1);
        }
    }
}

#[derive(Debug)]
struct ModelLock {
    disk: Arc<Mutex<Disk>>,
    dir: PathBuf,
    generation: u64,
}

impl DirLock for ModelLock {}

impl Drop for ModelLock {
    fn drop(&mut self) {
        let mut disk = self.disk.lock();
        if disk.generation == self.generation {
            disk.locks.remove(&self.dir);
        }
    }
}

fn not_found(path: &Path) -> Error {
    Error::new(ErrorKind::NotFound, path.display().to_string())
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
