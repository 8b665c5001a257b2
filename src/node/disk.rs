//! Room on the disk: watched, so that a node sheds load before it is full.
//!
//! # Contract
//! Below 5 % or 1 GiB of free space (whichever is less) the node refuses new workflows and gives
//! leaderships away; above that, and a bit more, it takes them again. A ballast file keeps some room
//! back: it goes when a start finds the disk full, so that the node can open its files and be repaired.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bristlecone_storage::vfs::{Open, Space, Vfs};

const FREE_MIN: u64 = 1 << 30;
const BALLAST: u64 = 64 << 20;

#[derive(Debug)]
pub struct Disk {
    vfs: Arc<dyn Vfs>,
    /// `None`: in memory.
    dir: Option<PathBuf>,
    free: AtomicU64,
    used: AtomicU64,
}

impl Disk {
    pub fn new(vfs: Arc<dyn Vfs>, dir: Option<&Path>) -> Self {
        Self { vfs, dir: dir.map(Path::to_path_buf), free: AtomicU64::new(0), used: AtomicU64::new(0) }
    }

    /// Makes room when there is none, keeps some back when there is plenty.
    pub fn prepare(&self) {
        let Some(dir) = &self.dir else { return };
        let ballast = dir.join("ballast");
        let Ok(space) = self.vfs.space(dir) else { return };
        let held = self.vfs.exists(&ballast).unwrap_or(false);
        if held && space.free < BALLAST / 2 {
            tracing::warn!("the disk is full: the ballast file is given up");
            drop(self.vfs.remove(&ballast));
        } else if !held && space.free > free_min(space) + BALLAST * 2 {
            // It is only a reserve: without it the node works as well.
            let reserved = self.vfs.open(&ballast, Open::Create).and_then(|file| file.allocate(BALLAST));
            if let Err(error) = reserved {
                tracing::warn!(%error, "no ballast file");
            }
        }
    }

    /// Looks at the disk; the reason to shed load, if there is one. `shedding`: it was shedding before.
    pub fn look(&self, used: u64, shedding: bool) -> Option<String> {
        self.used.store(used, Ordering::Relaxed);
        let dir = self.dir.as_ref()?;
        let space = self.vfs.space(dir).ok()?;
        self.free.store(space.free, Ordering::Relaxed);
        let needed = if shedding { free_min(space) / 4 * 5 } else { free_min(space) };
        (space.free < needed)
            .then(|| format!("the disk has {} MiB free, {} are needed", space.free >> 20, free_min(space) >> 20))
    }

    /// Bytes used by this node, and free bytes.
    pub fn usage(&self) -> (u64, u64) {
        (self.used.load(Ordering::Relaxed), self.free.load(Ordering::Relaxed))
    }
}

fn free_min(space: Space) -> u64 {
    (space.total / 20).min(FREE_MIN)
}
