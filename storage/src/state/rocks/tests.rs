//! RocksDB keeps the contract: on disk and in memory, when it is killed, and when its files are damaged.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rocksdb::{BottommostLevelCompaction, CompactOptions, WaitForCompactOptions};
use tempfile::TempDir;

use super::*;
use crate::state::conformance::{self, Subject};

fn options() -> RocksOptions {
    RocksOptions {
        memtable_bytes: 4 << 20,
        cache_bytes: 1 << 20,
        snapshot_file_bytes: 64 << 10,
        ..RocksOptions::small()
    }
}

struct DiskSubject {
    directory: TempDir,
    generation: u32,
    store: Option<RocksStore>,
    scratches: u32,
}

impl DiskSubject {
    fn new() -> Self {
        let directory = TempDir::new().expect("a temporary directory can be made");
        let mut subject = Self { directory, generation: 0, store: None, scratches: 0 };
        subject.open();
        subject
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join(format!("state-{}", self.generation))
    }

    fn open(&mut self) {
        self.store = Some(RocksStore::open(&self.state(), options()).expect("the store opens"));
    }

    fn rocks(&self) -> &RocksStore {
        self.store.as_ref().expect("the store is open")
    }
}

impl Subject for DiskSubject {
    fn store(&self) -> &dyn StateStore {
        self.rocks()
    }

    /// What a crash leaves are the files as they are while the store is open.
    fn crash(&mut self) -> bool {
        self.rocks().db.wait_for_compact(&WaitForCompactOptions::default()).expect("compactions end");
        let from = self.state();
        self.generation += 1;
        std::fs::create_dir(self.state()).expect("the directory is new");
        for entry in std::fs::read_dir(from).expect("the store has a directory") {
            let file = entry.expect("the directory can be read").path();
            let name = file.file_name().expect("a file has a name");
            std::fs::copy(&file, self.state().join(name)).expect("the file can be copied");
        }
        self.open();
        true
    }

    fn scratch(&mut self) -> Option<PathBuf> {
        self.scratches += 1;
        Some(self.directory.path().join(format!("snapshot-{}", self.scratches)))
    }

    fn damage(&self, file: &SnapshotFile, bit: u64) {
        flip(&file.path, bit);
    }

    fn break_disk(&mut self) -> bool {
        std::fs::remove_dir_all(self.state()).expect("the directory can be removed");
        true
    }
}

struct MemorySubject(RocksStore);

impl Subject for MemorySubject {
    fn store(&self) -> &dyn StateStore {
        &self.0
    }

    fn crash(&mut self) -> bool {
        false
    }

    fn scratch(&mut self) -> Option<PathBuf> {
        None
    }

    fn damage(&self, file: &SnapshotFile, _bit: u64) {
        panic!("there are no snapshots, but {file:?}");
    }

    fn break_disk(&mut self) -> bool {
        false
    }
}

fn flip(path: &Path, bit: u64) {
    let mut bytes = std::fs::read(path).expect("the file is there");
    let at = usize::try_from(bit / 8).expect("the file is small");
    bytes[at] ^= 1 << (bit % 8);
    std::fs::write(path, bytes).expect("the file can be written");
}

fn batch(build: impl FnOnce(&mut BatchBuilder)) -> Batch {
    let mut batch = BatchBuilder::new();
    build(&mut batch);
    batch.finish().expect("the batch is well-formed")
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn rows(store: &dyn Read) -> Result<Map> {
    let mut map = Map::new();
    store.scan(&KeyRange::all(), Direction::Forward, &mut |key, value| {
        map.insert(key.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    })?;
    Ok(map)
}

#[test]
fn rocksdb_on_disk_conforms() {
    conformance::run(&|| Box::new(DiskSubject::new()), 16);
}

#[test]
fn rocksdb_in_memory_conforms() {
    let make = || RocksStore::in_memory(options()).expect("the store opens");
    conformance::run(&|| Box::new(MemorySubject(make())), 48);
    let (one, other) = (make(), make());
    one.write(&[batch(|batch| batch.put(b"a", b"1"))]).expect("the write succeeds");
    assert_eq!(other.get(b"a"), Ok(None), "two stores share nothing");
    let file = SnapshotFile { path: "unused".into(), bytes: 0, crc: 0 };
    assert!(matches!(one.ingest(&[file], &Batch::default()), Err(Error::Unsupported(_))));
    assert!(matches!(one.view().export(&[KeyRange::all()], Path::new("unused")), Err(Error::Unsupported(_))));
}

/// The batches that the write with this number makes: some rows, and one that counts.
fn numbered(number: u64) -> [Batch; 2] {
    let row = |salt: u64| (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> salt) % 500;
    let rows = batch(|batch| {
        batch.put(&row(7).to_be_bytes(), &vec![number as u8; 600]);
        batch.put(&row(17).to_be_bytes(), &number.to_be_bytes());
        batch.delete(&row(27).to_be_bytes());
    });
    [rows, batch(|batch| batch.put(b"count", &number.to_be_bytes()))]
}

fn apply(map: &mut Map, batch: &Batch) {
    for op in batch {
        match op {
            Op::Put { key, value } => drop(map.insert(key.to_vec(), value.to_vec())),
            Op::Delete { key } | Op::SingleDelete { key } => drop(map.remove(key)),
            Op::Add { .. } => unreachable!("this test adds nothing"),
            Op::DeleteRange { start, end } => map.retain(|key, _| !(start <= &key[..] && &key[..] < end)),
        }
    }
}

/// How many writes the child makes between flushes that it asks for.
const FLUSH_EACH: u64 = 3500;
const CHILD: &str = "STATE_STORE_KILLED_IN_THIS_DIRECTORY";

fn count(row: Option<Bytes>) -> u64 {
    row.map_or(0, |count| u64::from_be_bytes(count[..].try_into().expect("eight bytes")))
}

/// Not a test by itself: what the next test runs as a process of its own, and kills.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let store = RocksStore::open(Path::new(&directory), options()).expect("the store opens");
    let first = count(store.get(b"count").expect("the read succeeds"));
    for number in first + 1.. {
        store.write(&numbered(number)).expect("the write succeeds");
        if number.is_multiple_of(500) {
            if number.is_multiple_of(FLUSH_EACH) {
                store.flush().expect("the flush succeeds");
            }
            println!("persisted {}", count(store.persisted(b"count").expect("the read succeeds")));
            io::stdout().flush().expect("the parent listens");
        }
    }
}

#[test]
fn a_killed_process_leaves_a_point_in_the_order_of_writes() {
    let directory = TempDir::new().expect("a temporary directory can be made");
    let mut expected = Map::new();
    let mut applied = 0;
    for round in 1..=4 {
        let mut child = Command::new(std::env::current_exe().expect("this is a program"))
            .args(["--exact", "state::rocks::tests::child_that_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the child starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        // Killed after flushes of its own accord, which come between any two writes.
        let persisted = lines
            .by_ref()
            .map(|line| line.expect("the child writes text"))
            .filter_map(|line| line.split_once("persisted ")?.1.parse().ok())
            .skip(round * 9)
            .find(|persisted: &u64| !persisted.is_multiple_of(FLUSH_EACH))
            .expect("the child writes until it is killed");
        child.kill().expect("the child can be killed");
        child.wait().expect("the child ends");

        let store = RocksStore::open(directory.path(), options()).expect("the store opens");
        let found = rows(&store).expect("nothing is damaged");
        let count = count(store.get(b"count").expect("the read succeeds"));
        assert!(count >= persisted, "{persisted} were persisted and {count} are left");
        (applied + 1..=count).flat_map(numbered).for_each(|batch| apply(&mut expected, &batch));
        applied = count;
        assert!(found == expected, "after {count} writes");
        store.verify().expect("nothing is damaged");
    }
}

#[test]
fn a_dropped_store_keeps_what_was_flushed_and_no_more() {
    let mut subject = DiskSubject::new();
    subject.store().write(&[batch(|batch| batch.put(b"a", b"1"))]).expect("the write succeeds");
    subject.store().flush().expect("the flush succeeds");
    subject.store().write(&[batch(|batch| batch.put(b"a", b"2"))]).expect("the write succeeds");
    assert!(matches!(RocksStore::open(&subject.state(), options()), Err(Error::Io(_))), "one process at a time");
    subject.store = None;
    subject.open();
    assert_eq!(subject.store().get(b"a"), Ok(Some(Bytes::from_static(b"1"))));
}

#[test]
fn every_flipped_bit_is_noticed_or_harmless() {
    let mut subject = DiskSubject::new();
    for number in 0..4000u64 {
        subject.store().write(&numbered(number)).expect("the write succeeds");
        let blob =
            batch(|batch| batch.put(format!("blob {}", number % 9).as_bytes(), &number.to_be_bytes().repeat(700)));
        subject.store().write(&[blob]).expect("the write succeeds");
        if number % 1500 == 0 {
            subject.store().flush().expect("the flush succeeds");
        }
    }
    subject.store().flush().expect("the flush succeeds");
    subject.rocks().db.wait_for_compact(&WaitForCompactOptions::default()).expect("compactions end");
    let expected = rows(subject.store()).expect("nothing is damaged");
    subject.store = None;
    let files: Vec<PathBuf> = std::fs::read_dir(subject.state())
        .expect("the store has a directory")
        .map(|entry| entry.expect("the directory can be read").path())
        .filter(|file| file.extension().is_some_and(|kind| kind == "sst" || kind == "blob"))
        .collect();
    assert!(files.iter().any(|file| file.extension().is_some_and(|kind| kind == "blob")), "large values have files");
    let (mut noticed, mut tried) = (0, 0);
    for file in &files {
        // A file of large values holds replaced ones too, which nobody looks at any more.
        let is_rows = file.extension().is_some_and(|kind| kind == "sst");
        let bits = std::fs::metadata(file).expect("the file is there").len() * 8;
        for at in 0..40 {
            let bit = bits * at / 40 + (at * 7 + 3) % 64;
            flip(file, bit);
            let found = is_noticed(&mut subject, file, &expected);
            noticed += u32::from(found && is_rows);
            tried += u32::from(is_rows);
            flip(file, bit);
        }
    }
    assert!(noticed * 10 >= tried * 9, "only {noticed} of {tried} flipped bits were noticed");
    subject.open();
    assert_eq!(rows(subject.store()), Ok(expected));
    subject.store().verify().expect("the files are whole again");
}

/// A flip that goes unnoticed must not change a row; one that is noticed must be blamed on its file.
fn is_noticed(subject: &mut DiskSubject, file: &Path, expected: &Map) -> bool {
    let blamed = |error: Error| match error {
        Error::Corrupt { file: named, detail } => {
            let named = Path::new(&named).file_name();
            // Of a file that cannot even be opened, RocksDB may blame the list of files, or nothing.
            let vague = !detail.contains(".sst") && !detail.contains(".blob");
            assert!(named == file.file_name() || vague, "{named:?}: {detail}");
        }
        other => panic!("{other}"),
    };
    let store = match RocksStore::open(&subject.state(), options()) {
        Ok(store) => store,
        Err(error) => {
            blamed(error);
            return true;
        }
    };
    let verified = store.verify();
    match rows(&store) {
        Ok(found) => assert_eq!(&found, expected),
        Err(error) => blamed(error),
    }
    for (key, value) in expected {
        match store.get(key) {
            Ok(found) => assert_eq!(found.as_deref(), Some(&value[..])),
            Err(error) => blamed(error),
        }
    }
    subject.store = None;
    match verified {
        Ok(()) => false,
        Err(error) => {
            blamed(error);
            true
        }
    }
}

#[test]
fn snapshots_replace_rows_at_every_depth_of_the_tree() {
    let mut subject = DiskSubject::new();
    let whole = KeyRange::new(&b"k"[..], &b"l"[..]);
    let row = |number: u32, value: &'static [u8]| batch(|batch| batch.put(format!("k{number:03}").as_bytes(), value));
    let to_the_bottom = |store: &RocksStore| {
        let mut how = CompactOptions::default();
        how.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        store.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &how);
    };
    subject.store().write(&(0..100).map(|number| row(number, b"old")).collect::<Vec<_>>()).expect("the write succeeds");
    let scratch = subject.scratch().expect("it takes snapshots");
    let files = subject.store().view().export(std::slice::from_ref(&whole), &scratch).expect("the export succeeds");
    let before = rows(subject.store()).expect("nothing is damaged");
    for depth in 0..3 {
        let strays = (100..200).map(|number| row(number * (depth + 1) % 997, b"stray"));
        subject.store().write(&strays.collect::<Vec<_>>()).expect("the write succeeds");
        subject.store().flush().expect("the flush succeeds");
        if depth == 0 {
            to_the_bottom(subject.rocks());
        }
    }
    subject.store().ingest(&files, &Batch::default()).expect("the ingest succeeds");
    assert_eq!(rows(subject.store()).as_ref(), Ok(&before));

    // Single deletes of rows that came by the snapshot must not bring back what stood below it.
    let deletes = (0..50).map(|number| batch(|batch| batch.single_delete(format!("k{number:03}").as_bytes())));
    subject.store().write(&deletes.collect::<Vec<_>>()).expect("the write succeeds");
    let expected: Map = before.into_iter().skip(50).collect();
    assert_eq!(rows(subject.store()).as_ref(), Ok(&expected));
    subject.store().flush().expect("the flush succeeds");
    assert_eq!(rows(subject.store()).as_ref(), Ok(&expected));
    to_the_bottom(subject.rocks());
    assert_eq!(rows(subject.store()).as_ref(), Ok(&expected));
    assert!(subject.crash());
    assert_eq!(rows(subject.store()), Ok(expected));
}

#[test]
fn a_file_that_ends_where_the_next_range_begins_stays() {
    let subject = DiskSubject::new();
    let store = subject.store();
    let range = KeyRange::new(&b"c"[..], &b"d"[..]);
    let keys = (0..50).map(|number| format!("c{number:02}")).chain(["d".to_owned()]);
    let batches: Vec<Batch> = keys.map(|key| batch(|batch| batch.put(key.as_bytes(), b"row"))).collect();
    store.write(&batches).expect("the write succeeds");
    store.flush().expect("the flush succeeds");
    subject.rocks().db.compact_range(None::<&[u8]>, None::<&[u8]>);
    let files = subject.rocks().db.live_files().expect("they can be listed");
    assert!(files.iter().any(|file| file.level > 0 && file.end_key.as_deref() == Some(b"d")), "{files:?}");
    store.write(&[batch(|batch| batch.delete_range(&range))]).expect("the write succeeds");
    store.reclaim(&range).expect("the range is empty");
    assert_eq!(rows(store).expect("nothing is damaged").into_keys().collect::<Vec<_>>(), [b"d"]);
}

/// Bytes that nothing makes smaller, another lot for each number.
fn noise(number: u32, bytes: usize) -> Vec<u8> {
    let words = (0u32..).map(|at| crc32c::crc32c(&[number.to_le_bytes(), at.to_le_bytes()].concat()));
    words.flat_map(u32::to_le_bytes).take(bytes).collect()
}

/// Bytes on disk once nothing is left to be done.
fn settled(subject: &DiskSubject) -> u64 {
    subject.store().flush().expect("the flush succeeds");
    subject.rocks().db.wait_for_compact(&WaitForCompactOptions::default()).expect("compactions end");
    subject.store().usage().expect("it runs").disk
}

#[test]
fn reclaiming_gives_the_space_back() {
    let subject = DiskSubject::new();
    let store = subject.store();
    for number in 0..12_000u32 {
        let first = if number % 4 == 0 { 'a' } else { 'b' };
        let key = format!("{first}{number:06}");
        store.write(&[batch(|batch| batch.put(key.as_bytes(), &noise(number, 1000)))]).expect("the write succeeds");
    }
    store.flush().expect("the flush succeeds");
    subject.rocks().db.compact_range(None::<&[u8]>, None::<&[u8]>);
    let before = settled(&subject);
    let range = KeyRange::new(&b"b"[..], &b"c"[..]);
    store.write(&[batch(|batch| batch.delete_range(&range))]).expect("the write succeeds");
    store.reclaim(&range).expect("the range is empty");
    let after = settled(&subject);
    assert!(before > 10 << 20 && after * 2 < before, "{before} bytes became {after}");
    assert_eq!(rows(store).expect("nothing is damaged").len(), 3000);
}

/// As retention deletes: row by row, here and there, in a store that has nothing else to do.
#[test]
fn rows_that_are_deleted_one_by_one_give_their_space_back() {
    for (count, bytes) in [(12_000, 1000), (3_000, 6000)] {
        let subject = DiskSubject::new();
        let store = subject.store();
        let key = |number: u32| format!("{number:06}");
        for number in 0..count {
            let row = batch(|batch| batch.put(key(number).as_bytes(), &noise(number, bytes)));
            store.write(&[row]).expect("the write succeeds");
        }
        store.flush().expect("the flush succeeds");
        subject.rocks().db.compact_range(None::<&[u8]>, None::<&[u8]>);
        let before = settled(&subject);
        for number in (0..count).filter(|number| number % 8 != 0) {
            store.write(&[batch(|batch| batch.delete(key(number).as_bytes()))]).expect("the write succeeds");
        }
        let after = settled(&subject);
        assert!(before > 10 << 20 && after * 2 < before, "of rows of {bytes} bytes: {before} bytes became {after}");
        assert_eq!(rows(store).expect("nothing is damaged").len(), count as usize / 8);
    }
}

#[test]
fn ends_of_ranges_are_never_reached() {
    for end in [&[4, 0][..], &[0, 1], &[0xFF, 0xFF, 0xFF], &[1], b"c"] {
        let last = last_key_before(end).expect("there is a key before it");
        assert!(&last[..] < end, "{last:?}");
    }
    assert!(last_key_before(&[4, 0]).expect("there is one") > [3, 0xFF, 0xFE, 0xFF].to_vec());
    assert_eq!(last_key_before(&[0, 0]), None);
}

#[test]
fn errors_are_told_apart() {
    let named = "Corruption: block checksum mismatch: stored = 1, computed = 2, type = 4  in /data/state/000012.sst offset 0 size 9";
    assert_eq!(file_in(named), Some("/data/state/000012.sst"));
    assert_eq!(file_in("Corruption: nothing is named"), None);
    let text = |error: &Error| error.to_string();
    let missing = RocksStore::open(Path::new("/proc/nowhere"), options()).expect_err("nothing can be made there");
    assert!(matches!(missing, Error::Io(_)), "{}", text(&missing));
}
