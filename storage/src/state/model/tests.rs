//! The model keeps the contract, and does what a simulation asks of it besides.

use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::state::conformance::{self, Subject};
use crate::vfs::ModelVfs;

struct ModelSubject {
    files: Arc<dyn Vfs>,
    store: ModelStore,
    scratches: u32,
}

impl ModelSubject {
    fn new() -> Self {
        let files: Arc<dyn Vfs> = Arc::new(ModelVfs::new(1));
        Self { files: files.clone(), store: ModelStore::new(files, ModelOptions::default()), scratches: 0 }
    }
}

impl Subject for ModelSubject {
    fn store(&self) -> &dyn StateStore {
        &self.store
    }

    fn crash(&mut self) -> bool {
        self.store = self.store.crash();
        true
    }

    fn scratch(&mut self) -> Option<PathBuf> {
        self.scratches += 1;
        Some(PathBuf::from(format!("/snapshots/{}", self.scratches)))
    }

    fn damage(&self, file: &SnapshotFile, bit: u64) {
        let open = self.files.open(&file.path, Open::Existing).expect("the file was exported");
        let mut byte = [0];
        crate::vfs::read_exact_at(&*open, &mut byte, bit / 8).expect("the bit is in the file");
        open.write_at(&[byte[0] ^ 1 << (bit % 8)], bit / 8).expect("the disk takes it");
    }

    fn break_disk(&mut self) -> bool {
        self.store.set_full(true);
        true
    }
}

fn put(key: &str, value: &str) -> Batch {
    let mut batch = BatchBuilder::new();
    batch.put(key.as_bytes(), value.as_bytes());
    batch.finish().expect("the batch is well-formed")
}

fn get(store: &dyn Read, key: &str) -> Option<Bytes> {
    store.get(key.as_bytes()).expect("the read succeeds")
}

#[test]
fn the_model_conforms() {
    conformance::run(&|| Box::new(ModelSubject::new()), 400);
}

#[test]
fn a_part_of_what_waits_can_be_flushed() {
    let store = ModelSubject::new().store;
    for value in ["1", "2", "3"] {
        store.write(&[put("a", value), put(value, value)]).expect("the write succeeds");
    }
    store.flush_some(2).expect("the flush succeeds");
    assert_eq!(store.unflushed_writes(), 1);
    assert_eq!(store.persisted(b"a"), Ok(Some(Bytes::from_static(b"2"))));
    assert_eq!(get(&store, "a"), Some(Bytes::from_static(b"3")));
    let reopened = store.crash();
    assert_eq!(get(&reopened, "a"), Some(Bytes::from_static(b"2")));
    assert_eq!((get(&reopened, "2"), get(&reopened, "3")), (Some(Bytes::from_static(b"2")), None));
    assert!(matches!(store.write(&[put("a", "4")]), Err(Error::Poisoned(_))), "it crashed");
    assert!(matches!(store.get(b"a"), Err(Error::Poisoned(_))));
}

#[test]
fn it_flushes_by_itself_before_too_much_waits() {
    let files: Arc<dyn Vfs> = Arc::new(ModelVfs::new(1));
    let options = ModelOptions { unflushed_bytes_max: 100, ..ModelOptions::default() };
    let store = ModelStore::new(files, options);
    for number in 0..20 {
        store.write(&[put("a", &number.to_string())]).expect("the write succeeds");
        assert!(store.usage().expect("it runs").unflushed <= 100);
    }
    assert!(store.persisted(b"a").expect("it runs").is_some());
}

#[test]
fn a_full_disk_refuses_writes_until_the_next_start() {
    let store = ModelSubject::new().store;
    store.write(&[put("a", "1")]).expect("the write succeeds");
    store.flush().expect("the flush succeeds");
    store.set_full(true);
    assert!(matches!(store.write(&[put("a", "2")]), Err(Error::Full(_))));
    assert!(matches!(store.write(&[put("a", "2")]), Err(Error::Poisoned(_))));
    let reopened = store.crash();
    assert_eq!(get(&reopened, "a"), Some(Bytes::from_static(b"1")), "what is there is served");
    reopened.flush().expect("nothing waits for a flush");
    reopened.set_full(false);
    reopened.write(&[put("a", "3")]).expect("there is room again");
}

#[test]
fn a_flipped_bit_is_noticed_and_other_rows_are_served() {
    let store = ModelSubject::new().store;
    store.write(&[put("a", "1"), put("b", "2")]).expect("the write succeeds");
    store.flush().expect("the flush succeeds");
    assert!(!store.flip_bit(b"c", 0) && !store.flip_bit(b"a", 8), "there are no such bits");
    assert!(store.flip_bit(b"a", 3));
    assert!(matches!(store.get(b"a"), Err(Error::Corrupt { .. })));
    assert!(matches!(store.verify(), Err(Error::Corrupt { .. })));
    assert!(matches!(store.persisted(b"a"), Err(Error::Corrupt { .. })));
    let seen = store.scan(&KeyRange::all(), Direction::Forward, &mut |_, _| ControlFlow::Continue(()));
    assert!(matches!(seen, Err(Error::Corrupt { .. })));
    assert_eq!(get(&store, "b"), Some(Bytes::from_static(b"2")));
    assert!(matches!(store.crash().get(b"a"), Err(Error::Corrupt { .. })));
}

#[test]
fn a_misused_single_delete_is_refused() {
    let change = |build: &dyn Fn(&mut BatchBuilder)| {
        let mut batch = BatchBuilder::new();
        build(&mut batch);
        batch.finish().expect("the batch is well-formed")
    };
    let put = || change(&|batch| batch.put(b"a", b"1"));
    let delete = || change(&|batch| batch.delete(b"a"));
    let clear = || change(&|batch| batch.delete_range(&KeyRange::one(&b"a"[..])));
    let single = || change(&|batch| batch.single_delete(b"a"));
    for wrong in [vec![], vec![put(), put()], vec![put(), delete(), put()], vec![put(), single()]] {
        let store = ModelSubject::new().store;
        store.write(&wrong).expect("so far all is well");
        assert!(matches!(store.write(&[single()]), Err(Error::Invalid(_))), "{wrong:?}");
        assert!(matches!(store.write(&[put()]), Err(Error::Poisoned(_))));
    }
    let store = ModelSubject::new().store;
    store.write(&[put(), single(), put(), single()]).expect("each was put once");
    store.write(&[put(), put(), delete(), clear(), put(), single()]).expect("a range deletion makes a fresh start");
}
