//! The power of all machines goes at once: what no disk was told to keep is lost, and nothing else.
//!
//! Each node has a file system of its own (ext4 in a file, through a loop device). Shutting one down as ext4 can do for
//! tests drops whatever was not synced, its journal included; kill -9 alone would leave all that in the page cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use bristlecone_cluster_tests::Cluster;

use super::{Stage, WELL_AGAIN, rounds};

const SIZE: u64 = 1 << 30;
/// EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH, for all directories that are named.
const SHUT_DOWN: &str = "
import fcntl, os, struct, sys
for path in sys.argv[1:]:
    directory = os.open(path, os.O_RDONLY)
    fcntl.ioctl(directory, 0x8004587D, struct.pack('I', 2))
";

/// A file system of its own, whose power can go.
pub(super) struct Disk {
    image: PathBuf,
    pub(super) dir: PathBuf,
}

impl Disk {
    fn new(dir: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&dir)?;
        let image = dir.with_extension("image");
        File::create(&image)?.set_len(SIZE)?;
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.as_ref()])?;
        let disk = Self { image, dir };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> anyhow::Result<()> {
        run("mount", &["-o".as_ref(), "loop".as_ref(), self.image.as_ref(), self.dir.as_ref()])
    }

    /// Mounts it anew: its journal brings back what was promised.
    fn power_on(&self) -> anyhow::Result<()> {
        run("umount", &[self.dir.as_ref()])?;
        self.mount()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still has a file open keeps it until the end.
        drop(run("umount", &["-l".as_ref(), self.dir.as_ref()]));
        // The cluster's own end could not remove what was mounted; after a failure it stays to be looked at.
        if let (Some(node), false) = (self.dir.parent(), std::thread::panicking()) {
            drop(fs::remove_dir_all(node));
            drop(node.parent().map(fs::remove_dir));
        }
    }
}

fn run(program: &str, arguments: &[&Path]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("{program} is missing"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Three nodes at work, each on a disk of its own; `None` where there are no such disks.
pub(super) async fn on_disks(name: &str) -> Option<(Vec<Disk>, Stage)> {
    let mut cluster = Cluster::unstarted(name, 3);
    let mut disks = Vec::new();
    for number in cluster.numbers() {
        let disk = match Disk::new(cluster.node(number).dir.join("disk")) {
            Ok(disk) => disk,
            Err(error) => {
                println!("skipped: no file systems of their own: {error:#}");
                return None;
            }
        };
        cluster.node(number).set_data_dir(disk.dir.join("data"));
        cluster.node(number).start().expect("the program starts");
        disks.push(disk);
    }
    cluster.wait_healthy().await;
    Some((disks, Stage::at_work(name, cluster).await))
}

#[tokio::test(flavor = "multi_thread")]
async fn f3_the_power_of_all_nodes_goes() {
    let Some((disks, mut stage)) = on_disks("power").await else { return };
    let rounds = rounds(3);
    for _ in 0..rounds {
        let shards = stage.shards().await;
        stage.measure();
        let mut arguments: Vec<&Path> = vec!["-c".as_ref(), SHUT_DOWN.as_ref()];
        arguments.extend(disks.iter().map(|disk| disk.dir.as_path()));
        run("python3", &arguments).expect("the power goes");
        for number in stage.cluster.numbers() {
            stage.cluster.node(number).kill();
        }
        for disk in &disks {
            disk.power_on().expect("the disk comes back");
        }
        for number in stage.cluster.numbers() {
            stage.cluster.node(number).start().expect("the program starts");
        }
        stage.probes.wait_answering(WELL_AGAIN).await;
        stage.note(&shards);
        stage.recover().await;
    }
    stage.clear("F-3 power cut of all", rounds).await;
    drop(disks);
}
