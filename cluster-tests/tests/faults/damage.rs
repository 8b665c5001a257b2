//! Disks that bring back other bytes: a torn end of the log is cut off, a changed bit is found and refused.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::RngExt;

use super::{Stage, rounds};

const TIME: Duration = Duration::from_secs(30);
/// What is written at once, and torn at once.
const SECTOR: u64 = 512;
const TORN_MAX: usize = 64 << 10;

/// The file of the log that was written last, and where its data end.
fn end_of_log(data_dir: &Path) -> (PathBuf, u64) {
    let written = |path: PathBuf| {
        let bytes = fs::read(&path).expect("readable");
        let end = bytes.iter().rposition(|byte| *byte != 0)? as u64 + 1;
        Some((path, end))
    };
    let mut files: Vec<PathBuf> = fs::read_dir(data_dir.join("log"))
        .expect("there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    files.sort();
    files.into_iter().filter_map(written).next_back().expect("a log has data")
}

#[tokio::test(flavor = "multi_thread")]
async fn f11_the_end_of_the_log_is_torn() {
    let rounds = rounds(6);
    let mut stage = Stage::set("torn").await;
    for round in 0..rounds {
        let victim = round % 3 + 1;
        let led = stage.led_by(victim).await;
        stage.measure();
        stage.cluster.node(victim).kill();
        // A write that the power left half done: without its first sector, with anything in others. (A disk writes
        // a sector as a whole: one with anything in it, where a write began, is damage, and is refused.)
        let (segment, end) = end_of_log(&stage.cluster.node(victim).data_dir());
        let torn_from = end.next_multiple_of(SECTOR) + SECTOR;
        let room = fs::metadata(&segment).expect("there").len().saturating_sub(torn_from);
        let garbage: Vec<u8> = {
            let mut rng = rand::rng();
            let length = rng.random_range(1..=TORN_MAX).min(room as usize);
            (0..length).map(|_| rng.random()).collect()
        };
        let file = OpenOptions::new().write(true).open(&segment).expect("there");
        file.write_all_at(&garbage, torn_from).expect("writable");
        stage.cluster.node(victim).start().expect("the program starts");
        stage.recover().await;
        stage.note(&led);
    }
    stage.clear("F-11 a torn end of the log", rounds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_a_bit_flips() {
    let rounds = rounds(2);
    let mut stage = Stage::set("flips").await;
    for round in 0..rounds {
        let victim = 3 - round % 3;
        let id = stage.cluster.id_of(victim).await;
        // A stop flushes the rows.
        assert!(stage.cluster.node(victim).stop().await.success());
        let data_dir = stage.cluster.node(victim).data_dir();
        let (file, end) = match round % 2 {
            0 => {
                let (file, end) = end_of_log(&data_dir);
                // The last batch cannot be told from one that the power tore: that is F-11.
                (file, end / 2)
            }
            _ => {
                let (file, end) = largest_table(&data_dir);
                // Behind the rows stand the filters: a damaged one is not used, and nothing else comes of it.
                (file, end / 2)
            }
        };
        let at = rand::rng().random_range(0..end * 8);
        let open = OpenOptions::new().read(true).write(true).open(&file).expect("there");
        let mut byte = [0];
        open.read_exact_at(&mut byte, at / 8).expect("long enough");
        open.write_all_at(&[byte[0] ^ (1 << (at % 8))], at / 8).expect("writable");
        drop(open);
        let node = stage.cluster.node(victim);
        node.start().expect("the program starts");
        let ended = node.wait_end(TIME).await;
        assert!(!ended.success(), "bit {at} of {} was not noticed", file.display());
        stage.replace(victim, id).await;
    }
    stage.clear("F-12 a bit flips, all detected", rounds).await;
}

fn largest_table(data_dir: &Path) -> (PathBuf, u64) {
    let tables = fs::read_dir(data_dir.join("state")).expect("there").map(|entry| entry.expect("readable").path());
    let tables = tables.filter(|path| path.extension().is_some_and(|extension| extension == "sst"));
    let sized = tables.map(|path| (fs::metadata(&path).expect("there").len(), path));
    let (length, path) = sized.max().expect("a stop flushes the rows");
    (path, length)
}
