//! Limits of what a process may use of the machine: processor time, and writes to a disk.
//!
//! # Contract
//! By control groups of version 1, which need root. A limit ends when it is dropped; the processes under it go on
//! without.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;

const CPU: &str = "/sys/fs/cgroup/cpu";
const DISK: &str = "/sys/fs/cgroup/blkio";
/// Microseconds in which a share of the processor is given out.
const PERIOD: u32 = 100_000;

/// A group of processes under a limit.
#[derive(Debug)]
pub struct Limit {
    dir: PathBuf,
}

impl Limit {
    /// That share of one core.
    ///
    /// # Errors
    /// This machine or user does not allow it.
    pub fn cpu(percent: u32) -> anyhow::Result<Self> {
        let limit = Self::new(CPU)?;
        limit.set("cpu.cfs_period_us", &PERIOD.to_string())?;
        limit.set("cpu.cfs_quota_us", &(PERIOD / 100 * percent).to_string())?;
        Ok(limit)
    }

    /// So many writes and bytes a second, to the disk on which a directory is.
    ///
    /// # Errors
    /// This machine or user does not allow it.
    pub fn writes(dir: &Path, per_second: u32, bytes_per_second: u32) -> anyhow::Result<Self> {
        let device = fs::metadata(dir)?.st_dev();
        let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        let limit = Self::new(DISK)?;
        limit.set("blkio.throttle.write_iops_device", &format!("{device} {per_second}"))?;
        limit.set("blkio.throttle.write_bps_device", &format!("{device} {bytes_per_second}"))?;
        Ok(limit)
    }

    fn new(kind: &str) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = Path::new(kind).join(format!("bristlecone-{}-{number}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("no control groups at {kind}"))?;
        Ok(Self { dir })
    }

    /// From now on it holds for this process.
    ///
    /// # Errors
    /// There is no such process.
    pub fn hold(&self, pid: u32) -> anyhow::Result<()> {
        self.set("cgroup.procs", &pid.to_string())
    }

    /// What those under it felt of it so far.
    pub fn felt(&self) -> String {
        let sum = |file: &str, word: &str| -> u64 {
            let text = fs::read_to_string(self.dir.join(file)).unwrap_or_default();
            let lines = text.lines().filter(|line| line.contains(word));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
        };
        match self.dir.starts_with(CPU) {
            true => format!("stopped {} times", sum("cpu.stat", "nr_throttled")),
            false => format!("{} writes done", sum("blkio.throttle.io_serviced", " Write ")),
        }
    }

    fn set(&self, file: &str, value: &str) -> anyhow::Result<()> {
        fs::write(self.dir.join(file), value).with_context(|| format!("{file} cannot be {value}"))
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let held = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        let above = self.dir.parent().map(|parent| parent.join("cgroup.procs"));
        for (pid, above) in held.lines().zip(above.iter().cycle()) {
            // It may have ended meanwhile.
            drop(fs::write(above, pid));
        }
        drop(fs::remove_dir(&self.dir));
    }
}
