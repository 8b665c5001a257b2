//! The state store on RocksDB, on disk or in memory; outside of this module nothing names RocksDB.
//!
//! # Contract
//! One column family, no write-ahead log: a crash leaves the rows as of a point in the order of writes,
//! because a batch lies in one memtable as a whole, memtables reach the disk in order (so never
//! `unordered_write`), and an ingest follows a flush with all writes held up in between.
//!
//! The in-memory variant is the same engine over RocksDB's own in-memory file system: same behaviour,
//! rows compressed as on disk, open in milliseconds. It keeps nothing when it is dropped, and takes part
//! in no snapshots: it is for a development server, which is a cluster of one.
//!
//! Any error but a damaged block met by a read stops the store. RocksDB's own repair of background
//! errors is switched off: what failed once is not tried again.

mod sst;
#[cfg(test)]
mod tests;
mod tuning;

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Bytes;
use parking_lot::RwLock;
use rocksdb::{
    Cache, DB, DBRawIterator, Env, ErrorKind, IngestExternalFileOptions, Options, ReadOptions, ReadTier, Snapshot,
    WriteBatch, WriteOptions, properties,
};

use super::batch::{Batch, BatchBuilder, Op};
use super::error::{Error, Result};
use super::range::KeyRange;
use super::snapshot;
use super::store::{Cursor, Direction, Read, SnapshotFile, StateStore, Usage, View, Visitor};
use sst::SstSink;

pub use tuning::RocksOptions;

pub struct RocksStore {
    db: DB,
    /// How snapshot files are written.
    sst: Options,
    cache: Cache,
    reads: ReadOptions,
    persisted_reads: ReadOptions,
    writes: WriteOptions,
    /// Held shared by writes, alone by what must come between two of them.
    order: RwLock<()>,
    /// Why the store does nothing more.
    poisoned: OnceLock<String>,
    options: RocksOptions,
    /// `None`: in memory.
    directory: Option<PathBuf>,
}

impl RocksStore {
    /// Opens the store of a directory, which is made if need be, and which one process may open at a time.
    pub fn open(directory: &Path, options: RocksOptions) -> Result<Self> {
        make_directory(directory).map_err(|error| io_error(directory, &error))?;
        Self::open_in(directory, None, options)
    }

    /// An empty store that keeps its files in memory.
    pub fn in_memory(options: RocksOptions) -> Result<Self> {
        let env = Env::mem_env().map_err(classify)?;
        Self::open_in(Path::new("/state"), Some(env), options)
    }

    fn open_in(directory: &Path, env: Option<Env>, options: RocksOptions) -> Result<Self> {
        let cache = Cache::new_lru_cache(options.cache_bytes);
        let mut tuned = tuning::tuned(&options, &cache).map_err(classify)?;
        if let Some(env) = &env {
            tuned.set_env(env);
        }
        let db = DB::open_cf_with_opts(&tuned, directory, [(FAMILY, tuned.clone())]).map_err(classify)?;
        let mut persisted_reads = ReadOptions::default();
        persisted_reads.set_read_tier(ReadTier::Persisted);
        let mut writes = WriteOptions::default();
        writes.disable_wal(true);
        Ok(Self {
            db,
            sst: tuned,
            cache,
            reads: ReadOptions::default(),
            persisted_reads,
            writes,
            order: RwLock::new(()),
            poisoned: OnceLock::new(),
            options,
            directory: env.is_none().then(|| directory.to_owned()),
        })
    }

    fn check_running(&self) -> Result<()> {
        match self.poisoned.get() {
            Some(reason) => Err(Error::Poisoned(reason.clone())),
            None => Ok(()),
        }
    }

    fn poison(&self, error: Error) -> Error {
        // The first reason stays.
        let _ = self.poisoned.set(error.to_string());
        error
    }

    fn write_failed(&self, error: rocksdb::Error) -> Error {
        self.poison(classify(error))
    }

    fn read_failed(&self, error: rocksdb::Error) -> Error {
        match classify(error) {
            corrupt @ Error::Corrupt { .. } => corrupt,
            other => self.poison(other),
        }
    }

    fn get_with(&self, key: &[u8], options: &ReadOptions) -> Result<Option<Bytes>> {
        self.check_running()?;
        let value = self.db.get_pinned_opt(key, options).map_err(|error| self.read_failed(error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn multi_get_with(&self, keys: &[&[u8]], options: &ReadOptions) -> Result<Vec<Option<Bytes>>> {
        self.check_running()?;
        let family = self.db.cf_handle(FAMILY).expect("the store was opened with it");
        let sorted = keys.is_sorted();
        let values = self.db.batched_multi_get_cf_opt(family, keys.iter().copied(), sorted, options);
        let mut rows = Vec::with_capacity(keys.len());
        for value in values {
            let value = value.map_err(|error| self.read_failed(error))?;
            rows.push(value.map(|value| Bytes::copy_from_slice(&value)));
        }
        Ok(rows)
    }

    fn scan_with(
        &self,
        mut options: ReadOptions,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visitor<'_>,
    ) -> Result<()> {
        self.check_running()?;
        if range.is_empty() {
            return Ok(());
        }
        options.set_iterate_lower_bound(&range.start[..]);
        options.set_iterate_upper_bound(&range.end[..]);
        let mut rows = self.db.raw_iterator_opt(options);
        match direction {
            Direction::Forward => rows.seek_to_first(),
            Direction::Reverse => rows.seek_to_last(),
        }
        walk(&mut rows, direction, visit).map_err(|error| self.read_failed(error))
    }

    fn cursor_with(&self, mut options: ReadOptions, bounds: &KeyRange) -> Result<Box<dyn Cursor + '_>> {
        self.check_running()?;
        options.set_iterate_lower_bound(&bounds.start[..]);
        options.set_iterate_upper_bound(&bounds.end[..]);
        let rows = self.db.raw_iterator_opt(options);
        Ok(Box::new(RocksCursor { store: self, rows, bounds: bounds.clone() }))
    }

    fn is_surely_empty_with(&self, mut options: ReadOptions, range: &KeyRange) -> bool {
        if self.check_running().is_err() {
            return false;
        }
        options.set_read_tier(ReadTier::BlockCache);
        options.set_iterate_lower_bound(&range.start[..]);
        options.set_iterate_upper_bound(&range.end[..]);
        let mut rows = self.db.raw_iterator_opt(options);
        rows.seek_to_first();
        // What is not in memory ends the iteration with a status of its own.
        !rows.valid() && rows.status().is_ok()
    }

    fn flush_now(&self) -> Result<()> {
        self.db.flush().map_err(|error| self.write_failed(error))?;
        let failures = self.property(properties::BACKGROUND_ERRORS)?;
        if failures > 0 {
            return Err(self.poison(Error::Io(format!("{failures} failed flushes or compactions"))));
        }
        Ok(())
    }

    fn property(&self, name: &properties::PropName) -> Result<u64> {
        let value = self.db.property_int_value(name).map_err(|error| self.read_failed(error))?;
        Ok(value.unwrap_or(0))
    }

    fn write_now(&self, batches: &[Batch]) -> Result<()> {
        let bytes = batches.iter().map(|batch| batch.bytes().len() + 2 * batch.len()).sum::<usize>();
        if bytes == 0 {
            return Ok(());
        }
        let mut joined = WriteBatch::with_capacity_bytes(bytes + BATCH_HEADER_BYTES);
        for op in batches.iter().flatten() {
            match op {
                Op::Put { key, value } => joined.put(key, value),
                Op::Delete { key } => joined.delete(key),
                Op::SingleDelete { key } => joined.single_delete(key),
                Op::DeleteRange { start, end } => joined.delete_range(start, end),
                Op::Add { key, amount } => joined.merge(key, amount.to_le_bytes()),
            }
        }
        self.db.write_opt(joined, &self.writes).map_err(|error| self.write_failed(error))
    }

    fn reclaim_alone(&self, range: &KeyRange, tombstone: Batch) -> Result<()> {
        let _alone = self.order.write();
        let mut empty = true;
        self.scan(range, Direction::Forward, &mut |_, _| {
            empty = false;
            ControlFlow::Break(())
        })?;
        if !empty {
            return Err(Error::Invalid("a range with rows in it cannot be reclaimed".into()));
        }
        if let Some(last) = last_key_before(&range.end) {
            // The end that RocksDB takes is inclusive: a file that ends with the first key of the next
            // range must stay.
            self.db.delete_file_in_range(&range.start[..], &last[..]).map_err(|error| self.write_failed(error))?;
        }
        // A tombstone may have gone with its file while rows under it stand in a file that stayed.
        self.write_now(&[tombstone])
    }
}

impl fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksStore").field("directory", &self.directory).field("options", &self.options).finish()
    }
}

impl Read for RocksStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.get_with(key, &self.reads)
    }

    fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>> {
        self.multi_get_with(keys, &self.reads)
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        self.scan_with(ReadOptions::default(), range, direction, visit)
    }

    fn cursor(&self, bounds: &KeyRange) -> Result<Box<dyn Cursor + '_>> {
        self.cursor_with(ReadOptions::default(), bounds)
    }

    fn is_surely_empty(&self, range: &KeyRange) -> bool {
        self.is_surely_empty_with(ReadOptions::default(), range)
    }
}

impl StateStore for RocksStore {
    fn view(&self) -> Box<dyn View + '_> {
        let snapshot = self.db.snapshot();
        let mut reads = ReadOptions::default();
        reads.set_snapshot(&snapshot);
        Box::new(RocksView { store: self, snapshot, reads })
    }

    fn write(&self, batches: &[Batch]) -> Result<()> {
        self.check_running()?;
        let _shared = self.order.read();
        self.write_now(batches)
    }

    fn flush(&self) -> Result<()> {
        self.check_running()?;
        self.flush_now()
    }

    fn persisted(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.get_with(key, &self.persisted_reads)
    }

    fn ingest(&self, files: &[SnapshotFile], extra: &Batch) -> Result<()> {
        self.check_running()?;
        let puts = snapshot::puts_in_order(extra)?;
        let mut paths: Vec<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
        if self.directory.is_none() && !files.is_empty() {
            return Err(Error::Unsupported("snapshots of a store in memory"));
        }
        files.iter().try_for_each(sst::check_file)?;
        let directory = files.first().and_then(|file| file.path.parent());
        if let (Some(directory), false) = (directory, puts.is_empty()) {
            paths.push(sst::write_extra(self, &puts, directory)?);
        }
        let mut how = IngestExternalFileOptions::default();
        how.set_move_files(true);
        how.set_snapshot_consistency(true);
        // So that little is left to flush while all writes wait.
        self.flush_now()?;
        let _alone = self.order.write();
        if files.is_empty() {
            self.write_now(std::slice::from_ref(extra))?;
            return self.flush_now();
        }
        self.flush_now()?;
        self.db.ingest_external_file_opts(&how, paths).map_err(|error| self.write_failed(error))
    }

    fn reclaim(&self, range: &KeyRange) -> Result<()> {
        self.check_running()?;
        let mut tombstone = BatchBuilder::new();
        tombstone.delete_range(range);
        let tombstone = tombstone.finish().map_err(|error| Error::Invalid(error.to_string()))?;
        // What removed the rows is durable before their files go.
        self.flush_now()?;
        self.reclaim_alone(range, tombstone)?;
        self.flush_now()
    }

    fn verify(&self) -> Result<()> {
        self.check_running()?;
        let Some(directory) = &self.directory else {
            return self.scan(&KeyRange::all(), Direction::Forward, &mut |_, _| ControlFlow::Continue(()));
        };
        // Files that a compaction replaces meanwhile must stay to be read.
        self.db.disable_file_deletions().map_err(|error| self.write_failed(error))?;
        let verified = verify_files(directory, self.options.open_files_max);
        self.db.enable_file_deletions().map_err(|error| self.write_failed(error))?;
        verified.map_err(classify)
    }

    fn usage(&self) -> Result<Usage> {
        self.check_running()?;
        let blobs = self.db.property_int_value(c"rocksdb.total-blob-file-size");
        let blobs = blobs.map_err(|error| self.read_failed(error))?.unwrap_or(0);
        Ok(Usage {
            disk: self.property(properties::TOTAL_SST_FILES_SIZE)? + blobs,
            unflushed: self.property(properties::SIZE_ALL_MEM_TABLES)?,
            cache: self.cache.get_usage() as u64,
        })
    }
}

struct RocksView<'s> {
    store: &'s RocksStore,
    snapshot: Snapshot<'s>,
    /// With the snapshot set.
    reads: ReadOptions,
}

impl fmt::Debug for RocksView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksView").field("sequence", &self.snapshot.sequence_number()).finish()
    }
}

impl Read for RocksView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.store.get_with(key, &self.reads)
    }

    fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>> {
        self.store.multi_get_with(keys, &self.reads)
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        self.store.scan_with(options, range, direction, visit)
    }

    fn cursor(&self, bounds: &KeyRange) -> Result<Box<dyn Cursor + '_>> {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        self.store.cursor_with(options, bounds)
    }

    fn is_surely_empty(&self, range: &KeyRange) -> bool {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        self.store.is_surely_empty_with(options, range)
    }
}

impl View for RocksView<'_> {
    fn export(&self, ranges: &[KeyRange], directory: &Path) -> Result<Vec<SnapshotFile>> {
        self.store.check_running()?;
        if self.store.directory.is_none() {
            return Err(Error::Unsupported("snapshots of a store in memory"));
        }
        std::fs::create_dir_all(directory).map_err(|error| self.store.poison(io_error(directory, &error)))?;
        let scan = |range: &KeyRange, visit: &mut Visitor<'_>| {
            let mut options = ReadOptions::default();
            options.set_snapshot(&self.snapshot);
            options.fill_cache(false);
            options.set_readahead_size(BULK_READ_BYTES);
            self.store.scan_with(options, range, Direction::Forward, visit)
        };
        snapshot::export(&scan, ranges, &mut SstSink::new(self.store, directory))
    }
}

/// RocksDB's name of the one column family.
const FAMILY: &str = "default";
/// Sequence number and count at the head of RocksDB's own batches.
const BATCH_HEADER_BYTES: usize = 12;
const BULK_READ_BYTES: usize = 1 << 20;

/// Reads all files of a directory as another process would: past every cache of the open store.
fn verify_files(directory: &Path, open_files_max: i32) -> std::result::Result<(), rocksdb::Error> {
    let cache = Cache::new_lru_cache(BULK_READ_BYTES);
    let db = DB::open_for_read_only(&tuning::bulk(&cache, open_files_max), directory, false)?;
    let mut reads = ReadOptions::default();
    reads.set_verify_checksums(true);
    reads.fill_cache(false);
    reads.set_readahead_size(BULK_READ_BYTES);
    let mut rows = db.raw_iterator_opt(reads);
    rows.seek_to_first();
    walk(&mut rows, Direction::Forward, &mut |_, _| ControlFlow::Continue(()))
}

/// Shows the rows from where the iterator stands.
fn walk(
    rows: &mut DBRawIterator<'_>,
    direction: Direction,
    visit: &mut Visitor<'_>,
) -> std::result::Result<(), rocksdb::Error> {
    while let Some((key, value)) = rows.item() {
        if let ControlFlow::Break(()) = visit(key, value) {
            return Ok(());
        }
        match direction {
            Direction::Forward => rows.next(),
            Direction::Reverse => rows.prev(),
        }
    }
    rows.status()
}

/// One iterator for many scans: making one takes longer than a scan of a few rows.
struct RocksCursor<'s> {
    store: &'s RocksStore,
    rows: DBRawIterator<'s>,
    bounds: KeyRange,
}

impl Cursor for RocksCursor<'_> {
    fn scan(&mut self, range: &KeyRange, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        self.store.check_running()?;
        let range = range.within(&self.bounds);
        if range.is_empty() {
            return Ok(());
        }
        match direction {
            Direction::Forward => self.rows.seek(&range.start),
            Direction::Reverse => {
                self.rows.seek_for_prev(&range.end);
                // It stands on the end itself when there is such a row.
                if self.rows.key() == Some(&range.end[..]) {
                    self.rows.prev();
                }
            }
        }
        let mut visit_within = |key: &[u8], value: &[u8]| {
            if range.contains(key) { visit(key, value) } else { ControlFlow::Break(()) }
        };
        walk(&mut self.rows, direction, &mut visit_within).map_err(|error| self.store.read_failed(error))
    }
}

/// A key that is before `end` and after every key of the registry that is.
fn last_key_before(end: &[u8]) -> Option<Vec<u8>> {
    let last = end.iter().rposition(|byte| *byte != 0)?;
    let mut key = end.get(..=last)?.to_vec();
    *key.last_mut()? -= 1;
    key.extend_from_slice(&[0xFF; 32]);
    Some(key)
}

fn make_directory(directory: &Path) -> io::Result<()> {
    if directory.try_exists()? {
        return Ok(());
    }
    std::fs::create_dir_all(directory)?;
    // RocksDB makes the names in its directory durable, not the directory's own.
    match directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn io_error(path: &Path, error: &io::Error) -> Error {
    let text = format!("{}: {error}", path.display());
    if error.kind() == io::ErrorKind::StorageFull { Error::Full(text) } else { Error::Io(text) }
}

fn classify(error: rocksdb::Error) -> Error {
    let (kind, text) = (error.kind(), error.into_string());
    if text.contains("No space left on device") {
        return Error::Full(text);
    }
    match kind {
        ErrorKind::Corruption => Error::Corrupt { file: file_in(&text).unwrap_or("state").to_owned(), detail: text },
        _ => Error::Io(text),
    }
}

/// The file that a message of RocksDB names.
fn file_in(text: &str) -> Option<&str> {
    let mut words = text.split([' ', ',', ';', ':', '(', ')']);
    let data = |word: &&str| word.ends_with(".sst") || word.ends_with(".blob");
    words.clone().find(data).or_else(|| words.find(|word| word.contains("/MANIFEST-")))
}
