//! The segment files on disk: made, kept for reuse, deleted.
//!
//! # Contract
//! A file keeps its name (`<number>.seg`) for its life; which segment it holds stands in its first batch. It
//! gets its name when it is zero from end to end and synced, so that writing to it never has to change the
//! file's metadata. A file that is reused keeps its old bytes: their batch numbers tell them from new ones.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::error::Corruption;
use super::sector::SECTOR;
use crate::vfs::{Open, Vfs, VfsFile};

/// Bytes of zeros written at a time.
const ZEROS: usize = 1 << 20;

/// Ending of a segment file, and of one that is being made.
const READY: &str = "seg";
const UNREADY: &str = "new";

/// An open segment file. Whoever reads it holds the `Arc`; it is reused when nobody does.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn VfsFile>,
    /// Whole sectors, in bytes.
    pub(super) bytes: u64,
}

impl SegmentFile {
    pub(super) fn damage(&self, offset: u64, what: &str) -> Corruption {
        Corruption { file: self.path.clone(), offset, what: what.to_owned() }
    }

    pub(super) fn unreadable(&self, offset: u64, error: &io::Error) -> Corruption {
        self.damage(offset, &format!("cannot be read: {error}"))
    }
}

#[derive(Debug)]
pub(super) struct Files {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    spares: Mutex<Spares>,
    /// Bytes of all files.
    bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Spares {
    files: Vec<Arc<SegmentFile>>,
    next_name: u64,
}

impl Files {
    /// Opens all files of a directory, which is created when it is not there; half-made ones are removed. Their
    /// names are made durable: whoever gave them may have died before that.
    pub(super) fn open(vfs: Arc<dyn Vfs>, dir: PathBuf) -> io::Result<(Self, Vec<Arc<SegmentFile>>)> {
        vfs.create_dir_all(&dir)?;
        let mut found = Vec::new();
        let (mut next_name, mut bytes) = (1, 0);
        for name in vfs.list(&dir)? {
            let path = dir.join(&name);
            match name.rsplit_once('.') {
                Some((number, READY)) => {
                    next_name = next_name.max(number.parse::<u64>().map_or(0, |number| number + 1));
                    let file = vfs.open(&path, Open::Existing)?;
                    let whole = file.len()? / SECTOR as u64 * SECTOR as u64;
                    bytes += whole;
                    found.push(Arc::new(SegmentFile { path, file, bytes: whole }));
                }
                Some((_, UNREADY)) => vfs.remove(&path)?,
                _ => {}
            }
        }
        vfs.sync_dir(&dir)?;
        let spares = Mutex::new(Spares { files: Vec::new(), next_name });
        Ok((Self { vfs, dir, spares, bytes: AtomicU64::new(bytes) }, found))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn spares(&self) -> usize {
        self.spares.lock().files.len()
    }

    pub(super) fn spare_bytes(&self) -> u64 {
        self.spares.lock().files.iter().map(|spare| spare.bytes).sum()
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file of this length to write a segment into, made when there is no spare one.
    pub(super) fn take(&self, bytes: u64) -> io::Result<Arc<SegmentFile>> {
        let fits = |spare: &Arc<SegmentFile>| spare.bytes == bytes && Arc::strong_count(spare) == 1;
        let mut spares = self.spares.lock();
        if let Some(at) = spares.files.iter().position(fits) {
            return Ok(spares.files.swap_remove(at));
        }
        drop(spares);
        self.make(bytes)
    }

    /// Takes a file back whose segment is free.
    pub(super) fn give_back(&self, file: Arc<SegmentFile>) {
        self.spares.lock().files.push(file);
    }

    /// Makes a spare file when there is none of this length.
    pub(super) fn prepare(&self, bytes: u64) -> io::Result<()> {
        if self.spares.lock().files.iter().any(|spare| spare.bytes == bytes) {
            return Ok(());
        }
        let file = self.make(bytes)?;
        self.give_back(file);
        Ok(())
    }

    /// Deletes spare files beyond `kept` and those of another length.
    pub(super) fn trim(&self, kept: usize, bytes: u64) -> io::Result<()> {
        let mut fitting = 0;
        let surplus = |spare: &mut Arc<SegmentFile>| {
            fitting += usize::from(spare.bytes == bytes);
            spare.bytes != bytes || fitting > kept
        };
        let surplus: Vec<_> = self.spares.lock().files.extract_if(.., surplus).collect();
        for file in &surplus {
            self.vfs.remove(&file.path)?;
            self.bytes.fetch_sub(file.bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    fn make(&self, bytes: u64) -> io::Result<Arc<SegmentFile>> {
        let name = {
            let mut spares = self.spares.lock();
            spares.next_name += 1;
            format!("{:08}", spares.next_name - 1)
        };
        let unready = self.dir.join(format!("{name}.{UNREADY}"));
        let path = self.dir.join(format!("{name}.{READY}"));
        let file = self.vfs.open(&unready, Open::CreateNew)?;
        if let Err(error) = self.fill(&*file, bytes) {
            // Give the space back; what cannot be removed now goes at the next opening.
            let _ = self.vfs.remove(&unready);
            return Err(error);
        }
        self.vfs.rename(&unready, &path)?;
        self.vfs.sync_dir(&self.dir)?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(Arc::new(SegmentFile { path, file, bytes }))
    }

    fn fill(&self, file: &dyn VfsFile, bytes: u64) -> io::Result<()> {
        file.allocate(bytes)?;
        if !file.wants_filling() {
            return file.sync_all();
        }
        let zeros = vec![0; ZEROS];
        let mut at = 0;
        while at < bytes {
            let count = (bytes - at).min(ZEROS as u64);
            let zeros = usize::try_from(count).ok().and_then(|count| zeros.get(..count));
            file.write_at(zeros.expect("not longer than the zeros"), at)?;
            // In small steps, so that the log's own syncs do not wait behind all of it.
            file.sync_data()?;
            at += count;
        }
        file.sync_all()
    }
}
