//! A disk that fills up: the node sheds load, says so, and recovers by itself.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use bristlecone_cluster_tests::api::Api;
use bristlecone_cluster_tests::{Cluster, until};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tonic::Code;

use super::rounds;

const TIME: Duration = Duration::from_secs(30);
const SIZE: u64 = 600 << 20;
/// What is left when it is full: far below what a node wants, enough for what it still has to write.
const LEFT: u64 = 8 << 20;

/// A small file system of its own.
struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    fn new(dir: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&dir)?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={SIZE}"), "tmpfs"])
            .arg(&dir)
            .output()
            .context("mount is missing")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(Self { dir })
    }

    fn fill(&self) {
        let space = statvfs(&self.dir).expect("mounted");
        let free = space.f_bavail * space.f_frsize;
        let file = File::create(self.dir.join("filler")).expect("there is room");
        fallocate(&file, FallocateFlags::empty(), 0, free.saturating_sub(LEFT)).expect("there is room");
    }

    fn clear(&self) {
        fs::remove_file(self.dir.join("filler")).expect("it was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still has a file open keeps it until the end.
        drop(Command::new("umount").arg("-l").arg(&self.dir).output());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f9_the_disk_fills_up() {
    let mut cluster = Cluster::empty("full");
    let place = bristlecone_cluster_tests::node::Place::local();
    let number = cluster.create(place, bristlecone_cluster_tests::node::Becomes::Founder);
    let disk = match SmallDisk::new(cluster.node(number).dir.join("disk")) {
        Ok(disk) => disk,
        Err(error) => {
            println!("skipped: no small file system: {error:#}");
            return;
        }
    };
    cluster.node(number).set_data_dir(disk.dir.join("data"));
    cluster.node(number).start().expect("the program starts");
    cluster.wait_healthy().await;
    let api = Api::once(&cluster.address(number));
    api.start("before", "W", "q", &(), "before").await.expect("there is room");

    let rounds = rounds(1);
    for round in 0..rounds {
        fills(&mut cluster, number, &disk, &api, round).await;
    }
    assert!(cluster.node(number).stop().await.success());
    drop(disk);
    println!("F-9 a full disk: {rounds} rounds; starts were refused, the rest went on, and starts came back");
}

async fn fills(cluster: &mut Cluster, number: usize, disk: &SmallDisk, api: &Api, round: usize) {
    disk.fill();
    until("shedding", TIME, || async {
        let health = cluster.cli(number, &["health"]);
        ensure!(health.status.code() == Some(2), "still healthy");
        ensure!(String::from_utf8_lossy(&health.stdout).contains("sheds load: the disk"), "{health:?}");
        Ok(())
    })
    .await;
    let during = format!("during-{round}");
    let refused = api.start(&during, "W", "q", &(), &during).await.expect_err("there is no room");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    // What is there goes on.
    api.signal("before", "s", &1, &during).await.expect("known workflows go on");
    assert_eq!(api.history("before", "").await.expect("readable").len(), 3 + round);
    cluster.fail_on_ended_node();

    disk.clear();
    let after = format!("after-{round}");
    until("a start", Duration::from_secs(10), || api.start(&after, "W", "q", &(), &after)).await;
    cluster.wait_healthy().await;
}
