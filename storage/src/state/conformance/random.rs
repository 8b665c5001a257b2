//! Random sequences of operations against a reference that remembers all its earlier states.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

#[derive(Debug, Clone, Default)]
struct Reference {
    /// Value, and puts since the row was last removed.
    rows: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    /// Keys that met a plain delete, and may meet no single delete.
    deleted: BTreeSet<Vec<u8>>,
}

#[derive(Debug, Clone)]
enum Change {
    Put {
        key: Vec<u8>,
        value: u8,
        len: usize,
    },
    /// A single delete where the rules allow it.
    Delete {
        key: Vec<u8>,
    },
    DeleteRange {
        span: (u8, u8),
    },
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<Vec<Change>>),
    Flush,
    Crash,
    /// Keep a view over a write and compare it with what was there before.
    View(Vec<Change>),
    Export {
        slots: (u8, u8),
    },
    /// Install the oldest snapshot that is kept, with a row on top.
    Ingest {
        extra: Option<Vec<u8>>,
    },
    Reclaim {
        slots: (u8, u8),
    },
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    (0u8..4, 0u8..6, any::<bool>()).prop_map(|(slot, row, long)| {
        let mut key = vec![slot, row];
        key.extend(long.then_some(0));
        key
    })
}

fn slots() -> impl Strategy<Value = (u8, u8)> {
    (0u8..4, 1u8..3).prop_map(|(first, count)| (first, first + count))
}

fn change() -> impl Strategy<Value = Change> {
    let len = prop_oneof![4 => 0usize..40, 1 => 5000usize..6000];
    prop_oneof![
        6 => (key(), any::<u8>(), len).prop_map(|(key, value, len)| Change::Put { key, value, len }),
        4 => key().prop_map(|key| Change::Delete { key }),
        1 => slots().prop_map(|span| Change::DeleteRange { span }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let changes = || prop::collection::vec(change(), 0..5);
    prop_oneof![
        12 => prop::collection::vec(changes(), 1..4).prop_map(Step::Write),
        4 => Just(Step::Flush),
        2 => Just(Step::Crash),
        2 => changes().prop_map(Step::View),
        2 => slots().prop_map(|slots| Step::Export { slots }),
        2 => prop::option::of(key()).prop_map(|extra| Step::Ingest { extra }),
        1 => slots().prop_map(|slots| Step::Reclaim { slots }),
    ]
}

pub(super) fn run(make: &dyn Fn() -> Box<dyn Subject>, cases: u32) {
    // proptest's own variable asks for more, or fewer.
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let cases = asked.unwrap_or(cases);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let tried = runner.run(&prop::collection::vec(step(), 1..60), |steps| {
        let mut subject = make();
        let mut trial = Trial::default();
        for step in steps {
            trial.step(&mut *subject, step);
            trial.check(subject.store());
        }
        subject.store().verify().expect("nothing is damaged");
        Ok(())
    });
    if let Err(failure) = tried {
        panic!("{failure}");
    }
}

/// The row that counts the writes, as a group's record does.
const COUNT: &[u8] = &[9];

#[derive(Default)]
struct Trial {
    now: Reference,
    /// The reference after each write since the last flush, the flushed one first.
    since_flush: Vec<Reference>,
    writes: u64,
    /// Snapshots that were not installed yet: files, range, rows.
    snapshots: Vec<(Vec<SnapshotFile>, KeyRange, Map)>,
}

impl Trial {
    fn step(&mut self, subject: &mut dyn Subject, step: Step) {
        if self.since_flush.is_empty() {
            self.since_flush.push(Reference::default());
        }
        match step {
            Step::Write(batches) => {
                let batches: Vec<Batch> = batches.iter().map(|changes| self.change(changes)).collect();
                self.write(subject.store(), batches);
            }
            Step::Flush => {
                subject.store().flush().expect("the flush succeeds");
                self.flushed();
            }
            Step::Crash => self.crash(subject),
            Step::View(changes) => {
                let before = plain(&self.now);
                let view = subject.store().view();
                let batch = self.change(&changes);
                self.write(subject.store(), vec![batch]);
                assert_eq!(all_rows(&*view), before);
            }
            Step::Export { slots } => {
                let Some(directory) = subject.scratch() else { return };
                let range = slot_range(slots);
                let files = subject.store().view().export(std::slice::from_ref(&range), &directory);
                let mut rows = plain(&self.now);
                rows.retain(|key, _| range.contains(key));
                self.snapshots.push((files.expect("the export succeeds"), range, rows));
            }
            Step::Ingest { extra } => self.ingest(subject.store(), extra),
            Step::Reclaim { slots } => {
                let range = slot_range(slots);
                let batch = batch(|batch| batch.delete_range(&range));
                self.now.clear(&range);
                self.write(subject.store(), vec![batch]);
                subject.store().reclaim(&range).expect("the range is empty");
                self.flushed();
            }
        }
    }

    /// Applies changes to the reference and gives the batch that does the same.
    fn change(&mut self, changes: &[Change]) -> Batch {
        batch(|batch| {
            for change in changes {
                match change {
                    // Long keys are put once and removed once.
                    Change::Put { key, .. } if key.len() > 2 && self.now.rows.contains_key(key) => {}
                    Change::Delete { key } if key.len() > 2 && !self.now.rows.contains_key(key) => {}
                    Change::Put { key, value, len } => {
                        let value = vec![*value; *len];
                        batch.put(key, &value);
                        self.now.put(key.clone(), value);
                    }
                    Change::Delete { key } => match self.now.rows.remove(key) {
                        Some((_, 1)) if !self.now.deleted.contains(key) => batch.single_delete(key),
                        Some(_) | None => {
                            self.now.deleted.insert(key.clone());
                            batch.delete(key);
                        }
                    },
                    Change::DeleteRange { span } => {
                        let range = slot_range(*span);
                        batch.delete_range(&range);
                        self.now.clear(&range);
                    }
                }
            }
        })
    }

    fn write(&mut self, store: &dyn StateStore, mut batches: Vec<Batch>) {
        self.writes += 1;
        let count = self.writes.to_be_bytes();
        batches.push(batch(|batch| batch.put(COUNT, &count)));
        self.now.put(COUNT.to_vec(), count.to_vec());
        store.write(&batches).expect("the write succeeds");
        self.since_flush.push(self.now.clone());
    }

    fn ingest(&mut self, store: &dyn StateStore, extra: Option<Vec<u8>>) {
        if self.snapshots.is_empty() {
            return;
        }
        let (files, range, rows) = self.snapshots.remove(0);
        self.now.clear(&range);
        for (key, value) in rows {
            self.now.put(key.to_vec(), value.to_vec());
        }
        self.writes += 1;
        let on_top = batch(|batch| {
            let count = self.writes.to_be_bytes();
            batch.put(COUNT, &count);
            self.now.put(COUNT.to_vec(), count.to_vec());
            if let Some(key) = extra {
                batch.put(&key, b"on top");
                self.now.put(key, b"on top".to_vec());
            }
        });
        store.ingest(&files, &on_top).expect("the ingest succeeds");
        self.flushed();
    }

    fn flushed(&mut self) {
        self.since_flush = vec![self.now.clone()];
    }

    fn crash(&mut self, subject: &mut dyn Subject) {
        if !subject.crash() {
            return;
        }
        let left = all_rows(subject.store());
        let found = self.since_flush.iter().find(|state| plain(state) == left);
        self.now = found.unwrap_or_else(|| panic!("no state since the last flush has these rows: {left:?}")).clone();
        // What survived a crash is durable.
        self.flushed();
    }

    fn check(&self, store: &dyn StateStore) {
        let expected = plain(&self.now);
        assert_eq!(all_rows(store), expected);
        let mut backwards = Vec::new();
        store
            .scan(&KeyRange::all(), Direction::Reverse, &mut |key, value| {
                backwards.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
                ControlFlow::Continue(())
            })
            .expect("the scan succeeds");
        assert!(backwards.into_iter().eq(expected.clone().into_iter().rev()));
        let keys: Vec<Vec<u8>> = (0..4).flat_map(|slot| (0..6).map(move |row| vec![slot, row])).collect();
        let found = store.multi_get(&keys.iter().map(|key| &key[..]).collect::<Vec<_>>()).expect("the read succeeds");
        for (key, found) in keys.iter().zip(found) {
            assert_eq!(found.as_ref(), expected.get(&key[..]));
            assert_eq!(store.get(key).expect("the read succeeds"), found);
        }
        let count = store.persisted(COUNT).expect("the read succeeds");
        let known =
            self.since_flush.iter().any(|state| state.rows.get(COUNT).map(|row| &row.0[..]) == count.as_deref());
        assert!(known || self.since_flush.is_empty(), "{count:?} was not the count since the last flush");
    }
}

impl Reference {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        let puts = self.rows.get(&key).map_or(0, |row| row.1);
        self.rows.insert(key, (value, puts + 1));
    }

    fn clear(&mut self, range: &KeyRange) {
        self.rows.retain(|key, _| !range.contains(key));
        self.deleted.retain(|key| !range.contains(key));
    }
}

fn plain(state: &Reference) -> Map {
    state.rows.iter().map(|(key, (value, _))| (Bytes::from(key.clone()), Bytes::from(value.clone()))).collect()
}

fn slot_range(slots: (u8, u8)) -> KeyRange {
    KeyRange::new(vec![slots.0], vec![slots.1])
}
