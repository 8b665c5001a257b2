//! How RocksDB is set up for rows that a Raft log protects: memory, files, levels, compression.

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, Error, InfoLogger, LogLevel, MergeOperands, Options};

use crate::state::{batch, snapshot};

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

/// zlib's window, which zstd takes no notice of: RocksDB's default.
const ZSTD_WINDOW_BITS: i32 = -14;
/// Values of this length and more stand in files of their own, out of the way of compactions.
const BLOB_BYTES_MIN: u64 = 4096;

/// Share of those files, the oldest, whose values a compaction moves on; and the share of what is left over in them from
/// which they are emptied even where nothing else is to be compacted. Otherwise a store in which there is only deleted
/// keeps all its space.
const BLOB_GC_SHARE: f64 = 0.5;
const BLOB_GARBAGE_MAX: f64 = 0.5;
/// Share of deletes among the entries of a file from which it is compacted at once, for the same reason.
const DELETES_MAX: f64 = 0.5;

/// `Op::Add`: what is no number makes reads of the row, and compactions, fail as corrupt.
fn add(_key: &[u8], stored: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let amounts: Option<Vec<i64>> =
        operands.iter().map(|operand| Some(i64::from_le_bytes(operand.try_into().ok()?))).collect();
    batch::sum(stored, amounts?).map(|sum| sum.to_le_bytes().to_vec())
}

fn set_merges(options: &mut Options) {
    options.set_merge_operator_associative("bristlecone.add", add);
}

pub(super) fn tuned(options: &RocksOptions, cache: &Cache) -> Result<Options, Error> {
    // What has no setter of its own: no flush when a store is dropped (a poisoned one must not write);
    // no second try after a background error; a memtable with many range tombstones slows every read,
    // so it is flushed early; a misused single delete must not stop compactions.
    let mut tuned = Options::default().get_options_from_string(
        "avoid_flush_during_shutdown=true;max_bgerror_resume_count=0;\
         memtable_max_range_deletions=256;enforce_single_del_contracts=false",
    )?;
    tuned.create_if_missing(true);
    set_merges(&mut tuned);
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
    // Level 1: half the CPU time of the default for a few percent of space.
    tuned.set_bottommost_compression_options(ZSTD_WINDOW_BITS, 1, 0, 0, true);
    tuned.set_enable_blob_files(true);
    tuned.set_min_blob_size(BLOB_BYTES_MIN);
    tuned.set_blob_compression_type(DBCompressionType::Lz4);
    tuned.set_enable_blob_gc(true);
    tuned.set_blob_gc_age_cutoff(BLOB_GC_SHARE);
    tuned.set_blob_gc_force_threshold(BLOB_GARBAGE_MAX);
    tuned.add_compact_on_deletion_collector_factory(0, 0, DELETES_MAX);
    tuned.set_blob_cache(cache);
    tuned.set_block_based_table_factory(&table(cache));

    tuned.set_max_open_files(options.open_files_max);
    tuned.set_skip_stats_update_on_db_open(true);
    tuned.set_manifest_preallocation_size(64 << 10);
    tuned.set_stats_dump_period_sec(0);
    tuned.set_stats_persist_period_sec(0);
    tuned.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, |level, line| match level {
        // Of its summary of files, for a directory in memory that is yet to be created.
        LogLevel::Error if line.starts_with("Error when reading") => tracing::debug!("rocksdb: {line}"),
        LogLevel::Error | LogLevel::Fatal => tracing::error!("rocksdb: {line}"),
        // It warns of what is normal too (the sizes of prefetches).
        LogLevel::Warn | LogLevel::Debug | LogLevel::Info | LogLevel::Header => tracing::debug!("rocksdb: {line}"),
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

/// For reading all files once, past the caches of the store that has them open.
pub(super) fn bulk(cache: &Cache, open_files_max: i32) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    let mut options = Options::default();
    set_merges(&mut options);
    options.set_max_open_files(open_files_max);
    options.set_block_based_table_factory(&table);
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Fatal, |_, _| {}));
    options
}
