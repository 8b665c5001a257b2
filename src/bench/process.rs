//! What the server's processes used: CPU time and memory of process trees, bytes on disk.
//!
//! # Contract
//! Linux only (`/proc`); elsewhere naming a process is an error. CPU time is user plus system time of all
//! threads, of the named processes and all their descendants; a child that ended counts with its parent.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};

/// Processes and directories of a server on this machine.
#[derive(Debug, Clone, Default)]
pub struct Servers {
    pids: Vec<u32>,
    dirs: Vec<PathBuf>,
}

/// What was used, in all or since an earlier reading.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    pub cpu: Duration,
    /// Most memory that each process ever held, summed up; bytes.
    pub peak_memory: u64,
    /// Most memory of any one tree; bytes.
    pub peak_memory_of_one: u64,
    /// Allocated blocks of the directories; bytes.
    pub disk: i64,
}

impl Used {
    pub fn since(&self, before: &Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(before.cpu), disk: self.disk - before.disk, ..*self }
    }
}

impl Servers {
    pub fn new(pids: &[u32], dirs: &[PathBuf]) -> anyhow::Result<Self> {
        for pid in pids {
            ensure!(Path::new(&format!("/proc/{pid}/stat")).exists(), "there is no process {pid} on this machine");
        }
        for dir in dirs {
            fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
        }
        Ok(Self { pids: pids.to_vec(), dirs: dirs.to_vec() })
    }

    pub fn read(&self) -> Used {
        let mut used = Used::default();
        let children = if self.pids.is_empty() { HashMap::new() } else { children() };
        for pid in &self.pids {
            let mut memory = 0;
            let mut tree = vec![*pid];
            while let Some(pid) = tree.pop() {
                used.cpu += cpu(pid).unwrap_or_default();
                memory += peak_memory(pid).unwrap_or_default();
                tree.extend(children.get(&pid).into_iter().flatten());
            }
            used.peak_memory += memory;
            used.peak_memory_of_one = used.peak_memory_of_one.max(memory);
        }
        used.disk = self.dirs.iter().map(|dir| disk(dir)).sum();
        used
    }
}

/// Processes by parent.
fn children() -> HashMap<u32, Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    children
}

/// The fields of `/proc/PID/stat` after the name, which may itself contain spaces: state, parent, …
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_string).collect())
}

/// User and system time of a process and of its children that it has waited for.
fn cpu(pid: u32) -> Option<Duration> {
    // Fields 14 to 17 of proc(5): utime, stime, cutime, cstime.
    let fields = stat(pid)?;
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

fn disk(path: &Path) -> i64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    let own = i64::try_from(meta.blocks() * 512).unwrap_or(i64::MAX);
    if !meta.is_dir() {
        return own;
    }
    own + fs::read_dir(path).into_iter().flatten().flatten().map(|entry| disk(&entry.path())).sum::<i64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_cpu_and_memory_and_a_file_takes_space() {
        let dir = std::env::temp_dir().join(format!("bristlecone-bench-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("room");
        let servers = Servers::new(&[std::process::id()], std::slice::from_ref(&dir)).expect("both are there");
        let before = servers.read();
        fs::write(dir.join("file"), vec![1; 1 << 20]).expect("room");
        while servers.read().since(&before).cpu < Duration::from_millis(20) {
            std::hint::black_box((0..1_000_000u64).sum::<u64>());
        }
        let used = servers.read().since(&before);
        assert!(used.peak_memory > 1 << 20 && used.disk >= 1 << 20, "{used:?}");
        fs::remove_dir_all(&dir).expect("it was ours");
        assert!(Servers::new(&[u32::MAX], &[]).is_err());
    }
}
