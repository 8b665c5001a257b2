//! The state store on RocksDB, on disk or in memory; nothing else of the project names RocksDB.
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

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRawIterator, Env, ErrorKind, InfoLogger,
    IngestExternalFileOptions, LogLevel, Options, ReadOptions, ReadTier, Snapshot, SstFileWriter, WriteBatch,
    WriteOptions, properties,
};

use super::batch::{Batch, Op};
use super::error::{Error, Result};
use super::range::KeyRange;
use super::snapshot::{self, Sink, damaged};
use super::store::{Direction, Read, SnapshotFile, StateStore, Usage, View, Visitor};

/// Memory and files that a store may use. All sizes in bytes.
#[derive(Debug, Clone, Copy)]
pub struct RocksOptions {
    /// Rows that were written and are not flushed, at most.
    pub memtable_bytes: usize,
    /// Blocks, indexes and filters that were read.
    pub cache_bytes: usize,
    pub open_files_max: i32,
    /// Threads for flushes and compactions, at least 2.
    pub background_jobs: i32,
    /// Bytes after which a snapshot goes on in another file.
    pub snapshot_file_bytes: u64,
}

impl RocksOptions {
    /// For a node of a cluster.
    pub fn server() -> Self {
        Self {
            memtable_bytes: 64 << 20,
            cache_bytes: 128 << 20,
            open_files_max: 512,
            background_jobs: 2,
            snapshot_file_bytes: snapshot::FILE_BYTES,
        }
    }

    /// For a development server, idle most of the time.
    pub fn small() -> Self {
        Self { memtable_bytes: 16 << 20, cache_bytes: 16 << 20, open_files_max: 128, ..Self::server() }
    }
}

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
    ingests: AtomicU64,
}

impl RocksStore {
    /// Opens the store of a directory, which is made if need be, and which one process may open at a time.
    pub fn open(directory: &Path, options: RocksOptions) -> Result<Self> {
        Self::open_in(directory, None, options)
    }

    /// An empty store that keeps its files in memory.
    pub fn in_memory(options: RocksOptions) -> Result<Self> {
        let env = Env::mem_env().map_err(classify)?;
        Self::open_in(Path::new("/state"), Some(env), options)
    }

    fn open_in(directory: &Path, env: Option<Env>, options: RocksOptions) -> Result<Self> {
        let cache = Cache::new_lru_cache(options.cache_bytes);
        let mut tuned = tuned(&options, &cache).map_err(classify)?;
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
            ingests: AtomicU64::new(0),
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
        let rows = self.db.raw_iterator_opt(options);
        walk(rows, direction, visit).map_err(|error| self.read_failed(error))
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
            }
        }
        self.db.write_opt(joined, &self.writes).map_err(|error| self.write_failed(error))
    }

    /// Writes the rows that go on top of a snapshot as a file of their own.
    fn write_extra(&self, puts: &[(&[u8], &[u8])], directory: &Path) -> Result<PathBuf> {
        let number = self.ingests.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("extra-{number}.sst"));
        let write = || {
            let mut file = SstFileWriter::create(&self.sst);
            file.open(&path)?;
            puts.iter().try_for_each(|(key, value)| file.put(key, value))?;
            file.finish()
        };
        write().map_err(|error| self.write_failed(error))?;
        Ok(path)
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
        files.iter().try_for_each(check_file)?;
        let directory = files.first().and_then(|file| file.path.parent());
        if let (Some(directory), false) = (directory, puts.is_empty()) {
            paths.push(self.write_extra(&puts, directory)?);
        }
        let mut how = IngestExternalFileOptions::default();
        how.set_move_files(true);
        how.set_snapshot_consistency(true);
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
        let mut tombstone = super::BatchBuilder::new();
        tombstone.delete_range(range);
        let tombstone = tombstone.finish().map_err(|error| Error::Invalid(error.to_string()))?;
        let _alone = self.order.write();
        let mut empty = true;
        self.scan(range, Direction::Forward, &mut |_, _| {
            empty = false;
            ControlFlow::Break(())
        })?;
        if !empty {
            return Err(Error::Invalid("a range with rows in it cannot be reclaimed".into()));
        }
        self.flush_now()?;
        if let Some(last) = last_key_before(&range.end) {
            // The end that RocksDB takes is inclusive: a file that ends with the first key of the next
            // range must stay.
            self.db.delete_file_in_range(&range.start[..], &last[..]).map_err(|error| self.write_failed(error))?;
        }
        // A tombstone may have gone with its file while rows under it stand in a file that stayed.
        self.write_now(&[tombstone])?;
        self.flush_now()
    }

    fn verify(&self) -> Result<()> {
        self.check_running()?;
        let Some(directory) = &self.directory else {
            return self.scan(&KeyRange::all(), Direction::Forward, &mut |_, _| ControlFlow::Continue(()));
        };
        // Files that a compaction replaces meanwhile must stay to be read.
        self.db.disable_file_deletions().map_err(|error| self.write_failed(error))?;
        let verified = verify_files(directory);
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
        let mut sink = SstSink { store: self.store, directory, written: 0, open: None };
        snapshot::export(&scan, ranges, &mut sink)
    }
}

/// Snapshot files that RocksDB can ingest.
struct SstSink<'s> {
    store: &'s RocksStore,
    directory: &'s Path,
    written: usize,
    open: Option<(PathBuf, SstFileWriter<'s>)>,
}

impl<'s> SstSink<'s> {
    fn file(&mut self) -> Result<&mut (PathBuf, SstFileWriter<'s>)> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let path = self.directory.join(format!("{:06}.sst", self.written));
                self.written += 1;
                let file = SstFileWriter::create(&self.store.sst);
                file.open(&path).map_err(|error| self.store.write_failed(error))?;
                (path, file)
            }
        };
        Ok(self.open.insert(open))
    }
}

impl Sink for SstSink<'_> {
    fn is_full(&self) -> bool {
        self.open.as_ref().is_some_and(|(_, file)| file.file_size() >= self.store.options.snapshot_file_bytes)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let store = self.store;
        self.file()?.1.put(key, value).map_err(|error| store.write_failed(error))
    }

    fn end(&mut self, span: &KeyRange) -> Result<SnapshotFile> {
        let store = self.store;
        self.file()?;
        let (path, mut file) = self.open.take().expect("it was opened by the line above");
        file.delete_range(&span.start, &span.end).map_err(|error| store.write_failed(error))?;
        file.finish().map_err(|error| store.write_failed(error))?;
        let (bytes, crc) = checksum(&path).map_err(|error| store.poison(io_error(&path, &error)))?;
        Ok(SnapshotFile { path, bytes, crc })
    }
}

/// RocksDB's name of the one column family.
const FAMILY: &str = "default";
/// Sequence number and count at the head of RocksDB's own batches.
const BATCH_HEADER_BYTES: usize = 12;
const BULK_READ_BYTES: usize = 1 << 20;
/// Values of this length and more stand in files of their own, out of the way of compactions.
const BLOB_BYTES_MIN: u64 = 4096;

fn tuned(options: &RocksOptions, cache: &Cache) -> std::result::Result<Options, rocksdb::Error> {
    // What has no setter of its own: no flush when a store is dropped (a poisoned one must not write);
    // no second try after a background error; a memtable with many range tombstones slows every read,
    // so it is flushed early; a misused single delete must not stop compactions.
    let mut tuned = Options::default().get_options_from_string(
        "avoid_flush_during_shutdown=true;max_bgerror_resume_count=0;\
         memtable_max_range_deletions=256;enforce_single_del_contracts=false",
    )?;
    tuned.create_if_missing(true);
    tuned.set_paranoid_checks(true);
    tuned.set_unordered_write(false);

    // Four memtables, so that writes go on while some are being flushed.
    tuned.set_write_buffer_size((options.memtable_bytes / 4).max(1 << 20));
    tuned.set_max_write_buffer_number(4);
    tuned.set_memtable_prefix_bloom_ratio(0.02);
    tuned.set_memtable_whole_key_filtering(true);
    tuned.set_max_background_jobs(options.background_jobs.max(2));
    tuned.set_bytes_per_sync(1 << 20);
    tuned.set_target_file_size_base((options.memtable_bytes as u64 / 2).max(1 << 20));
    tuned.set_max_bytes_for_level_base((options.memtable_bytes as u64 * 4).max(16 << 20));

    tuned.set_compression_type(DBCompressionType::Lz4);
    tuned.set_bottommost_compression_type(DBCompressionType::Zstd);
    tuned.set_enable_blob_files(true);
    tuned.set_min_blob_size(BLOB_BYTES_MIN);
    tuned.set_blob_compression_type(DBCompressionType::Lz4);
    tuned.set_enable_blob_gc(true);
    tuned.set_blob_cache(cache);
    tuned.set_block_based_table_factory(&table(cache));

    tuned.set_max_open_files(options.open_files_max);
    tuned.set_skip_stats_update_on_db_open(true);
    tuned.set_manifest_preallocation_size(64 << 10);
    tuned.set_stats_dump_period_sec(0);
    tuned.set_stats_persist_period_sec(0);
    tuned.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, |level, line| match level {
        LogLevel::Error | LogLevel::Fatal => tracing::error!("rocksdb: {line}"),
        LogLevel::Warn => tracing::warn!("rocksdb: {line}"),
        LogLevel::Debug | LogLevel::Info | LogLevel::Header => tracing::debug!("rocksdb: {line}"),
    }));
    Ok(tuned)
}

fn table(cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(8 << 10);
    table.set_format_version(6);
    table.set_bloom_filter(10.0, false);
    table.set_optimize_filters_for_memory(true);
    // Within the budget of the cache, and not the first to be thrown out of it.
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table
}

/// Reads all files of a directory as another process would: past every cache of the open store.
fn verify_files(directory: &Path) -> std::result::Result<(), rocksdb::Error> {
    let cache = Cache::new_lru_cache(1 << 20);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&cache);
    let mut options = Options::default();
    // Opens every file at once, with index and filter.
    options.set_max_open_files(-1);
    options.set_block_based_table_factory(&table);
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Fatal, |_, _| {}));
    let db = DB::open_for_read_only(&options, directory, false)?;
    let mut reads = ReadOptions::default();
    reads.set_verify_checksums(true);
    reads.fill_cache(false);
    reads.set_readahead_size(BULK_READ_BYTES);
    walk(db.raw_iterator_opt(reads), Direction::Forward, &mut |_, _| ControlFlow::Continue(()))
}

fn walk(
    mut rows: DBRawIterator<'_>,
    direction: Direction,
    visit: &mut Visitor<'_>,
) -> std::result::Result<(), rocksdb::Error> {
    match direction {
        Direction::Forward => rows.seek_to_first(),
        Direction::Reverse => rows.seek_to_last(),
    }
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

/// A key that is before `end` and after every key of the registry that is.
fn last_key_before(end: &[u8]) -> Option<Vec<u8>> {
    let last = end.iter().rposition(|byte| *byte != 0)?;
    let mut key = end.get(..=last)?.to_vec();
    *key.last_mut()? -= 1;
    key.extend_from_slice(&[0xFF; 32]);
    Some(key)
}

fn check_file(file: &SnapshotFile) -> Result<()> {
    let (bytes, crc) = checksum(&file.path).map_err(|error| damaged(file, error.to_string()))?;
    if bytes != file.bytes || crc != file.crc {
        return Err(damaged(file, "length or checksum of the file"));
    }
    Ok(())
}

/// Length and CRC-32C of a file.
fn checksum(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; BULK_READ_BYTES];
    let (mut bytes, mut crc) = (0, 0);
    loop {
        let read = io::Read::read(&mut file, &mut buffer)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else {
            return Ok((bytes, crc));
        };
        bytes += read as u64;
        crc = crc32c::crc32c_append(crc, part);
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

#[cfg(test)]
mod tests;
