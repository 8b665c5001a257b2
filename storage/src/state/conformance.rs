//! What every state store has to do, as tests over a store that a factory makes.
//!
//! # Contract
//! [`run`] is called for each kind of store. It compares everything that can be read with a reference, a
//! sorted map that remembers all its earlier states: after a crash the rows must be those of one of
//! them, not older than the last flush.
//!
//! # Used by
//! The tests of `rocks.rs` and of `model.rs`.

mod random;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use bytes::Bytes;

use super::{Batch, BatchBuilder, Direction, Error, KeyRange, Limit, Read, SnapshotFile, StateStore, state_hash};

/// A store, and what can be done to it from outside.
pub(super) trait Subject {
    fn store(&self) -> &dyn StateStore;

    /// Kills it and opens what is left; false when this kind of store leaves nothing.
    fn crash(&mut self) -> bool;

    /// A directory for a snapshot that was not used yet; `None` when this kind of store takes none.
    fn scratch(&mut self) -> Option<PathBuf>;

    /// Flips one bit of a snapshot file.
    fn damage(&self, file: &SnapshotFile, bit: u64);

    /// Makes the next flush fail; false when nothing can.
    fn break_disk(&mut self) -> bool;
}

/// Holds a kind of store to the contract. `cases` random sequences of operations are tried.
pub(super) fn run(make: &dyn Fn() -> Box<dyn Subject>, cases: u32) {
    for check in [
        writes_are_read_back,
        scans_keep_to_their_range,
        cursors_stay_within_their_bounds_and_as_they_were,
        pages_keep_to_their_limits,
        views_stay_as_they_were,
        a_write_is_whole_and_in_order,
        numbers_add_up,
        only_what_was_flushed_survives,
        persisted_rows_are_the_flushed_ones,
        a_snapshot_replaces_everything_in_its_span,
        spans_partition_the_ranges,
        an_ingest_is_durable_with_all_before_it,
        damaged_snapshots_are_refused,
        wrong_use_is_refused,
        a_removed_range_is_reclaimed_and_its_neighbours_stay,
        a_store_that_failed_does_nothing_more,
        equal_rows_have_equal_hashes,
    ] {
        check(&mut *make());
    }
    random::run(make, cases);
}

fn batch(build: impl FnOnce(&mut BatchBuilder)) -> Batch {
    let mut batch = BatchBuilder::new();
    build(&mut batch);
    batch.finish().expect("the batch is well-formed")
}

fn put(key: &str, value: &str) -> Batch {
    batch(|batch| batch.put(key.as_bytes(), value.as_bytes()))
}

fn write(store: &dyn StateStore, rows: &[(&str, &str)]) {
    let batches: Vec<Batch> = rows.iter().map(|(key, value)| put(key, value)).collect();
    store.write(&batches).expect("the write succeeds");
}

fn range(start: &str, end: &str) -> KeyRange {
    KeyRange::new(start.as_bytes().to_vec(), end.as_bytes().to_vec())
}

type Map = BTreeMap<Bytes, Bytes>;

fn rows_in(rows: &dyn Read, range: &KeyRange) -> Map {
    let mut map = Map::new();
    rows.scan(range, Direction::Forward, &mut |key, value| {
        map.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        ControlFlow::Continue(())
    })
    .expect("the scan succeeds");
    map
}

fn all_rows(rows: &dyn Read) -> Map {
    rows_in(rows, &KeyRange::all())
}

fn map(rows: &[(&str, &str)]) -> Map {
    rows.iter()
        .map(|(key, value)| (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes())))
        .collect()
}

fn get(rows: &dyn Read, key: &str) -> Option<String> {
    let value = rows.get(key.as_bytes()).expect("the read succeeds");
    value.map(|value| String::from_utf8(value.to_vec()).expect("tests write text"))
}

fn writes_are_read_back(subject: &mut dyn Subject) {
    let store = subject.store();
    assert_eq!(get(store, "a"), None);
    write(store, &[("a", "1"), ("b", "2"), ("empty", "")]);
    assert_eq!((get(store, "a"), get(store, "empty"), get(store, "c")), (Some("1".into()), Some(String::new()), None));
    let found = store.multi_get(&[b"c", b"b", b"a"]).expect("the read succeeds");
    assert_eq!(found, [None, Some(Bytes::from_static(b"2")), Some(Bytes::from_static(b"1"))]);
    assert_eq!(store.multi_get(&[]), Ok(vec![]));

    let large = "x".repeat(300_000);
    write(store, &[("a", "3"), ("large", &large)]);
    store.write(&[batch(|batch| batch.delete(b"b"))]).expect("the write succeeds");
    store.write(&[]).expect("nothing to write is nothing");
    store.write(&[Batch::default()]).expect("an empty batch is nothing");
    assert_eq!(all_rows(store), map(&[("a", "3"), ("empty", ""), ("large", &large)]));
    store.flush().expect("the flush succeeds");
    assert_eq!(all_rows(store), map(&[("a", "3"), ("empty", ""), ("large", &large)]));
    store.verify().expect("nothing is damaged");
}

fn scans_keep_to_their_range(subject: &mut dyn Subject) {
    let store = subject.store();
    write(store, &[("a", "1"), ("b", "2"), ("c", "3")]);
    store.flush().expect("the flush succeeds");
    write(store, &[("b\0", "4"), ("d", "5")]);
    let scan = |range: &KeyRange, direction: Direction, stop: usize| {
        let mut keys = Vec::new();
        let visited = store.scan(range, direction, &mut |key, _| {
            keys.push(String::from_utf8(key.to_vec()).expect("tests write text"));
            if keys.len() == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        visited.expect("the scan succeeds");
        keys
    };
    assert_eq!(scan(&range("b", "d"), Direction::Forward, 9), ["b", "b\0", "c"]);
    assert_eq!(scan(&range("b", "d"), Direction::Reverse, 9), ["c", "b\0", "b"]);
    assert_eq!(scan(&range("b", "d"), Direction::Reverse, 1), ["c"]);
    assert_eq!(scan(&range("aa", "b"), Direction::Forward, 9), [""; 0]);
    assert_eq!(scan(&range("d", "a"), Direction::Forward, 9), [""; 0], "an empty range has no rows");
    assert_eq!(scan(&KeyRange::one(&b"b"[..]), Direction::Forward, 9), ["b"]);
    assert!(!store.is_surely_empty(&range("b", "d")), "rows of before and after the flush");
    assert!(!store.is_surely_empty(&range("c", "d")), "a row that is on disk only");
    assert!(store.is_surely_empty(&range("e", "f")), "beyond all rows");
}

fn cursors_stay_within_their_bounds_and_as_they_were(subject: &mut dyn Subject) {
    let store = subject.store();
    write(store, &[("a", "1"), ("b", "2"), ("c", "3")]);
    store.flush().expect("the flush succeeds");
    write(store, &[("b\0", "4"), ("d", "5"), ("e", "6")]);
    let check = |rows: &dyn Read| {
        let mut cursor = rows.cursor(&range("b", "e")).expect("a cursor");
        write(store, &[("c\0", "new"), ("c", "new")]);
        let mut scan = |range: &KeyRange, direction: Direction, stop: usize| {
            let mut shown = String::new();
            let mut rows = 0;
            let visited = cursor.scan(range, direction, &mut |key, value| {
                shown.push_str(&format!("{}={} ", String::from_utf8_lossy(key), String::from_utf8_lossy(value)));
                rows += 1;
                if rows == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            visited.expect("the scan succeeds");
            shown.replace('\0', "0").trim_end().to_owned()
        };
        assert_eq!(scan(&range("a", "z"), Direction::Forward, 9), "b=2 b0=4 c=3 d=5", "no more than its bounds");
        assert_eq!(scan(&range("a", "z"), Direction::Reverse, 9), "d=5 c=3 b0=4 b=2");
        assert_eq!(scan(&range("b", "d"), Direction::Reverse, 9), "c=3 b0=4 b=2", "without the range's end");
        assert_eq!(scan(&range("c", "cc"), Direction::Reverse, 9), "c=3", "the end is no row");
        assert_eq!(scan(&range("b", "d"), Direction::Forward, 1), "b=2", "back again, until the visitor breaks");
        assert_eq!(scan(&range("b\0", "d"), Direction::Forward, 9), "b0=4 c=3");
        assert_eq!(scan(&range("d", "b"), Direction::Forward, 9), "");
        assert_eq!(scan(&range("e", "f"), Direction::Forward, 9), "", "outside");
        write(store, &[("c", "3")]);
    };
    check(store);
    store.write(&[batch(|batch| batch.delete(b"c\0"))]).expect("it is written");
    check(&*store.view());
}

fn pages_keep_to_their_limits(subject: &mut dyn Subject) {
    let store = subject.store();
    write(store, &[("a", "11"), ("b", "22"), ("c", "33")]);
    let page = |rows, bytes, direction| {
        let page = store.page(&KeyRange::all(), direction, Limit { rows, bytes }).expect("the scan succeeds");
        let keys: Vec<Bytes> = page.rows.into_iter().map(|(key, _)| key).collect();
        (keys.concat(), page.more)
    };
    assert_eq!(page(2, 100, Direction::Forward), (b"ab".to_vec(), true));
    assert_eq!(page(3, 100, Direction::Forward), (b"abc".to_vec(), false));
    assert_eq!(page(9, 4, Direction::Reverse), (b"cb".to_vec(), true));
    assert_eq!(page(9, 0, Direction::Forward), (b"a".to_vec(), true), "one row always fits");
    assert_eq!(page(0, 9, Direction::Forward), (vec![], true));
}

fn views_stay_as_they_were(subject: &mut dyn Subject) {
    let store = subject.store();
    write(store, &[("a", "1"), ("b", "2")]);
    let view = store.view();
    write(store, &[("a", "9"), ("c", "9")]);
    store.write(&[batch(|batch| batch.delete_range(&range("b", "c")))]).expect("the write succeeds");
    store.flush().expect("the flush succeeds");
    let before = map(&[("a", "1"), ("b", "2")]);
    assert_eq!(all_rows(&*view), before);
    assert_eq!((get(&*view, "a"), get(&*view, "b"), get(&*view, "c")), (Some("1".into()), Some("2".into()), None));
    assert_eq!(view.multi_get(&[b"c", b"b"]), Ok(vec![None, Some(Bytes::from_static(b"2"))]));
    assert_eq!(all_rows(store), map(&[("a", "9"), ("c", "9")]));
    assert_eq!(all_rows(&*store.view()), all_rows(store));
}

fn a_write_is_whole_and_in_order(subject: &mut dyn Subject) {
    let store = subject.store();
    let first = batch(|batch| {
        batch.put(b"a", b"1");
        batch.put(b"b", b"1");
        batch.delete(b"a");
        batch.put(b"a", b"2");
    });
    let second = batch(|batch| {
        batch.delete_range(&range("b", "c"));
        batch.put(b"c", b"1");
    });
    store.write(&[first, second, put("b", "3")]).expect("the write succeeds");
    assert_eq!(all_rows(store), map(&[("a", "2"), ("b", "3"), ("c", "1")]));
    store.write(&[batch(|batch| batch.single_delete(b"c"))]).expect("the write succeeds");
    assert_eq!(all_rows(store), map(&[("a", "2"), ("b", "3")]));
}

/// Numbers add up over batches, flushes and whatever merges them; what is gone begins at nothing.
fn numbers_add_up(subject: &mut dyn Subject) {
    let number = |store: &dyn StateStore, key: &[u8]| {
        store
            .get(key)
            .expect("the read succeeds")
            .map(|bytes| i64::from_le_bytes(bytes[..].try_into().expect("8 bytes")))
    };
    let add = |store: &dyn StateStore, key: &[u8], amount: i64| {
        store.write(&[batch(|batch| batch.add(key, amount))]).expect("the write succeeds");
    };
    for amount in 1..=10 {
        add(subject.store(), b"n", amount);
        if amount % 3 == 0 {
            subject.store().flush().expect("the flush succeeds");
        }
    }
    add(subject.store(), b"n", -5);
    assert_eq!(number(subject.store(), b"n"), Some(50));
    subject.store().write(&[batch(|batch| batch.put(b"n", &7_i64.to_le_bytes()))]).expect("the write succeeds");
    add(subject.store(), b"n", 1);
    assert_eq!(number(subject.store(), b"n"), Some(8));
    subject.store().write(&[batch(|batch| batch.delete_range(&range("n", "o")))]).expect("the write succeeds");
    assert_eq!(number(subject.store(), b"n"), None);
    add(subject.store(), b"n", 3);
    add(subject.store(), b"n", -3);
    subject.store().flush().expect("the flush succeeds");
    assert_eq!(all_rows(subject.store()).get(&b"n"[..]).map(Bytes::len), Some(8));
    assert_eq!(number(subject.store(), b"n"), Some(0));
    subject.store().verify().expect("what adds is no damage");
}

fn only_what_was_flushed_survives(subject: &mut dyn Subject) {
    write(subject.store(), &[("a", "1"), ("b", "1")]);
    subject.store().flush().expect("the flush succeeds");
    write(subject.store(), &[("a", "2"), ("c", "2")]);
    subject.store().write(&[batch(|batch| batch.delete(b"b"))]).expect("the write succeeds");
    if !subject.crash() {
        return;
    }
    assert_eq!(all_rows(subject.store()), map(&[("a", "1"), ("b", "1")]));
    write(subject.store(), &[("d", "3")]);
    assert_eq!(get(subject.store(), "d"), Some("3".into()));
    subject.store().flush().expect("the flush succeeds");
    assert!(subject.crash());
    assert_eq!(all_rows(subject.store()), map(&[("a", "1"), ("b", "1"), ("d", "3")]));
    subject.store().verify().expect("nothing is damaged");
}

fn persisted_rows_are_the_flushed_ones(subject: &mut dyn Subject) {
    let store = subject.store();
    let persisted = |key: &str| {
        let row = store.persisted(key.as_bytes()).expect("the read succeeds");
        row.map(|value| String::from_utf8(value.to_vec()).expect("tests write text"))
    };
    assert_eq!(persisted("a"), None);
    write(store, &[("a", "1")]);
    assert_eq!((persisted("a"), get(store, "a")), (None, Some("1".into())));
    store.flush().expect("the flush succeeds");
    assert_eq!(persisted("a"), Some("1".into()));
    write(store, &[("a", "2")]);
    assert_eq!((persisted("a"), get(store, "a")), (Some("1".into()), Some("2".into())));
    store.write(&[batch(|batch| batch.delete(b"a"))]).expect("the write succeeds");
    assert_eq!((persisted("a"), get(store, "a")), (Some("1".into()), None));
    store.flush().expect("the flush succeeds");
    assert_eq!(persisted("a"), None);
}

fn a_snapshot_replaces_everything_in_its_span(subject: &mut dyn Subject) {
    let Some(directory) = subject.scratch() else { return };
    let store = subject.store();
    write(store, &[("b1", "1"), ("b2", "1"), ("b3", "1"), ("g7", "state 1"), ("a", "low"), ("c", "high")]);
    let view = store.view();
    let files = view.export(&[range("b", "c"), range("g7", "g8")], &directory).expect("the export succeeds");
    drop(view);
    assert!(files.iter().all(|file| file.path.starts_with(&directory) && file.bytes > 0));

    // Rows that the snapshot lacks: flushed, not flushed, and at both ends of its span.
    write(store, &[("b", "new"), ("b2", "2"), ("b4", "2"), ("g7x", "new")]);
    store.flush().expect("the flush succeeds");
    write(store, &[("b2", "3"), ("b9", "3"), ("a", "low 2"), ("g7", "state 2"), ("g8", "other")]);
    store.write(&[batch(|batch| batch.delete(b"b1"))]).expect("the write succeeds");
    let view = store.view();
    let before = all_rows(store);
    store.ingest(&files, &put("n", "extra")).expect("the ingest succeeds");
    let expected = map(&[
        ("a", "low 2"),
        ("b1", "1"),
        ("b2", "1"),
        ("b3", "1"),
        ("c", "high"),
        ("g7", "state 1"),
        ("g8", "other"),
        ("n", "extra"),
    ]);
    assert_eq!(all_rows(store), expected);
    assert_eq!(all_rows(&*view), before, "a view from before does not see the ingest");
    drop(view);
    assert!(store.ingest(&files, &Batch::default()).is_err(), "the files are gone");
    write(store, &[("b4", "5")]);
    assert_eq!(get(store, "b4"), Some("5".into()));
    store.write(&[batch(|batch| batch.delete(b"b2"))]).expect("the write succeeds");
    assert_eq!(get(store, "b2"), None);
}

fn spans_partition_the_ranges(subject: &mut dyn Subject) {
    let (Some(directory), Some(empty)) = (subject.scratch(), subject.scratch()) else { return };
    let store = subject.store();
    // Values that do not compress, so that several files are needed.
    let value = |number: u32| {
        let bytes =
            (0..600).map(|at| crc32c::crc32c(&[number.to_le_bytes(), u32::to_le_bytes(at)].concat()).to_le_bytes());
        bytes.collect::<Vec<_>>().concat()
    };
    for number in 0..1000 {
        let row = batch(|batch| batch.put(format!("k{number:04}").as_bytes(), &value(number)));
        store.write(&[row]).expect("the write succeeds");
    }
    let before = all_rows(store);
    let whole = range("k", "l");
    let files = store.view().export(std::slice::from_ref(&whole), &directory).expect("the export succeeds");
    assert!(files.len() > 2, "the rows need more than {} files", files.len());
    let strays = (0..2000).map(|number| batch(|batch| batch.put(format!("k{number:04}x").as_bytes(), b"stray")));
    store.write(&strays.collect::<Vec<_>>()).expect("the write succeeds");
    store.ingest(&files, &Batch::default()).expect("the ingest succeeds");
    assert_eq!(rows_in(store, &whole), before);

    let files = store.view().export(&[range("l", "m"), range("o", "p")], &empty).expect("the export succeeds");
    write(store, &[("l", "stray"), ("lz", "stray"), ("m", "not in it"), ("o", "stray")]);
    store.ingest(&files, &Batch::default()).expect("an empty range is a snapshot too");
    assert_eq!(rows_in(store, &range("l", "z")), map(&[("m", "not in it")]));
}

fn an_ingest_is_durable_with_all_before_it(subject: &mut dyn Subject) {
    let Some(directory) = subject.scratch() else { return };
    write(subject.store(), &[("b1", "1")]);
    let files = subject.store().view().export(&[range("b", "c")], &directory).expect("the export succeeds");
    write(subject.store(), &[("b1", "2")]);
    subject.store().flush().expect("the flush succeeds");
    // Nothing that waits for a flush lies where the snapshot goes.
    write(subject.store(), &[("other", "before")]);
    subject.store().ingest(&files, &put("b2", "on top")).expect("the ingest succeeds");
    write(subject.store(), &[("other", "after")]);
    let persisted = subject.store().persisted(b"b1").expect("the read succeeds");
    assert_eq!(persisted, Some(Bytes::from_static(b"1")));
    assert!(subject.crash());
    assert_eq!(all_rows(subject.store()), map(&[("b1", "1"), ("b2", "on top"), ("other", "before")]));

    subject.store().ingest(&[], &put("x", "alone")).expect("a batch alone can be ingested");
    assert!(subject.crash());
    assert_eq!(get(subject.store(), "x"), Some("alone".into()));
}

fn damaged_snapshots_are_refused(subject: &mut dyn Subject) {
    let Some(first) = subject.scratch() else { return };
    write(subject.store(), &[("a", "1"), ("b1", "1"), ("b2", "some longer value")]);
    let files = subject.store().view().export(&[range("b", "c")], &first).expect("the export succeeds");
    write(subject.store(), &[("b1", "2")]);
    let before = all_rows(subject.store());
    for bit in (0..files[0].bytes * 8).step_by(61) {
        subject.damage(&files[0], bit);
        let refused = subject.store().ingest(&files, &Batch::default());
        let Err(Error::Corrupt { file, .. }) = refused else { panic!("bit {bit} was not noticed: {refused:?}") };
        assert_eq!(file, files[0].path.display().to_string());
        subject.damage(&files[0], bit);
    }
    let missing = SnapshotFile { path: first.join("missing"), ..files[0].clone() };
    assert!(matches!(subject.store().ingest(&[missing], &Batch::default()), Err(Error::Corrupt { .. })));
    assert_eq!(all_rows(subject.store()), before);
    subject.store().ingest(&files, &Batch::default()).expect("the file is whole again");
    assert_eq!(all_rows(subject.store()), map(&[("a", "1"), ("b1", "1"), ("b2", "some longer value")]));
}

fn wrong_use_is_refused(subject: &mut dyn Subject) {
    let scratch = subject.scratch();
    let store = subject.store();
    write(store, &[("a", "1")]);
    let refused = |result: super::Result<()>| assert!(matches!(result, Err(Error::Invalid(_))), "{result:?}");
    refused(store.ingest(&[], &batch(|batch| batch.delete(b"a"))));
    refused(store.ingest(&[], &batch(|batch| [b"k", b"k"].iter().for_each(|key| batch.put(*key, b"v")))));
    refused(store.reclaim(&range("b", "a")));
    if let Some(directory) = scratch {
        let view = store.view();
        for ranges in [&[range("b", "c"), range("a", "b")][..], &[range("a", "c"), range("b", "d")], &[range("a", "a")]]
        {
            refused(view.export(ranges, &directory).map(drop));
        }
        assert_eq!(view.export(&[], &directory), Ok(vec![]));
    }
    assert_eq!(all_rows(store), map(&[("a", "1")]));
    store.flush().expect("the store goes on");
}

fn a_removed_range_is_reclaimed_and_its_neighbours_stay(subject: &mut dyn Subject) {
    let value = "v".repeat(500);
    for round in 0..4 {
        let rows = ('a'..='e').flat_map(|first| (0..50).map(move |number| format!("{first}{number:02}")));
        let batches: Vec<Batch> = rows.map(|key| put(&key, &format!("{round}{value}"))).collect();
        subject.store().write(&batches).expect("the write succeeds");
        write(subject.store(), &[("c", "first of its range"), ("d", "first of the next")]);
        subject.store().flush().expect("the flush succeeds");
    }
    let store = subject.store();
    let others = [range("a", "c"), range("d", "f")].map(|range| rows_in(store, &range));
    let removed = batch(|batch| {
        batch.put(b"record", b"removed");
        batch.delete_range(&range("c", "d"));
    });
    assert!(matches!(store.reclaim(&range("c", "d")), Err(Error::Invalid(_))), "its rows are still there");
    store.write(&[removed]).expect("the write succeeds");
    store.reclaim(&range("c", "d")).expect("the range is empty");
    assert_eq!(rows_in(store, &range("c", "d")), Map::new());
    assert_eq!([range("a", "c"), range("d", "f")].map(|range| rows_in(store, &range)), others);
    if subject.crash() {
        let store = subject.store();
        assert_eq!(rows_in(store, &range("c", "d")), Map::new());
        assert_eq!([range("a", "c"), range("d", "f")].map(|range| rows_in(store, &range)), others);
        assert_eq!(get(store, "record"), Some("removed".into()));
        write(store, &[("c05", "again")]);
        assert_eq!(rows_in(store, &range("c", "d")), map(&[("c05", "again")]));
    }
}

fn a_store_that_failed_does_nothing_more(subject: &mut dyn Subject) {
    write(subject.store(), &[("a", "1")]);
    if !subject.break_disk() {
        return;
    }
    let store = subject.store();
    let failed = store.flush();
    assert!(matches!(failed, Err(Error::Full(_) | Error::Io(_))), "{failed:?}");
    let poisoned = |result: super::Result<()>| assert!(matches!(result, Err(Error::Poisoned(_))), "{result:?}");
    poisoned(store.flush());
    poisoned(store.write(&[put("a", "2")]));
    poisoned(store.get(b"a").map(drop));
    poisoned(store.multi_get(&[b"a"]).map(drop));
    poisoned(store.persisted(b"a").map(drop));
    poisoned(store.scan(&KeyRange::all(), Direction::Forward, &mut |_, _| ControlFlow::Continue(())));
    poisoned(store.view().get(b"a").map(drop));
    poisoned(store.view().export(&[range("a", "b")], std::path::Path::new("unused")).map(drop));
    poisoned(store.ingest(&[], &put("a", "2")));
    poisoned(store.reclaim(&range("x", "y")));
    poisoned(store.verify());
    poisoned(store.usage().map(drop));
}

fn equal_rows_have_equal_hashes(subject: &mut dyn Subject) {
    let store = subject.store();
    let hash = |range: &KeyRange| state_hash(store, range).expect("the scan succeeds");
    let nothing = hash(&KeyRange::all());
    write(store, &[("a", "1"), ("b", "2")]);
    let first = hash(&KeyRange::all());
    assert_ne!(first, nothing);
    assert_eq!(first, 0x1888_2485_0e79_1874, "all kinds of stores and all versions agree");
    store.flush().expect("the flush succeeds");
    assert_eq!(hash(&KeyRange::all()), first);
    for other in [("a", "2"), ("b", ""), ("c", "3")] {
        let old = store.get(other.0.as_bytes()).expect("the read succeeds");
        write(store, &[other]);
        assert_ne!(hash(&KeyRange::all()), first);
        assert_eq!(hash(&range("d", "z")), nothing);
        let undo = batch(|batch| match &old {
            Some(old) => batch.put(other.0.as_bytes(), old),
            None => batch.delete(other.0.as_bytes()),
        });
        store.write(&[undo]).expect("the write succeeds");
        assert_eq!(hash(&KeyRange::all()), first);
    }
}
