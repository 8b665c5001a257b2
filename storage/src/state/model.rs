//! The state store of a simulation: rows in memory, and a disk whose flushes, crashes and faults are decided.
//!
//! # Contract
//! The same as [`StateStore`], and: nothing of a write is durable before a flush, which the simulation
//! may do of any part of what waits ([`ModelStore::flush_some`]); [`ModelStore::crash`] gives the store
//! as it would be opened after a crash and stops this one. The same calls have the same results and
//! leave the same rows, always. A misused `SingleDelete` is refused, which RocksDB does not notice.
//!
//! # Depends on
//! `vfs`, for snapshot files.
//!
//! # Used by
//! The simulation, and tests of what stands above.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use super::batch::{Batch, BatchBuilder, Op};
use super::error::{Error, Result};
use super::range::KeyRange;
use super::snapshot::{self, Sink, damaged};
use super::store::{Cursor, Direction, Limit, Read, SnapshotFile, StateStore, Usage, View, Visitor};
use crate::planted::{self, Bug};
use crate::vfs::{Open, Vfs};

#[derive(Debug, Clone, Copy)]
pub struct ModelOptions {
    /// Bytes of batches that may wait for a flush; then the store flushes by itself.
    pub unflushed_bytes_max: usize,
    /// Bytes after which a snapshot goes on in another file.
    pub snapshot_file_bytes: u64,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self { unflushed_bytes_max: 16 << 20, snapshot_file_bytes: 256 << 10 }
    }
}

#[derive(Debug)]
pub struct ModelStore {
    files: Arc<dyn Vfs>,
    options: ModelOptions,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    visible: Tables,
    durable: Tables,
    /// What leads from `durable` to `visible`.
    unflushed: Vec<Vec<Batch>>,
    unflushed_bytes: usize,
    full: bool,
    poisoned: Option<String>,
}

#[derive(Debug, Default, Clone)]
struct Tables {
    /// Copied by a write while a view holds it, so views should be short.
    rows: Arc<Rows>,
    /// Keys that a `Delete` met since a range deletion did: no `SingleDelete` is allowed there. Grows
    /// with the distinct keys of a simulation.
    deleted: BTreeSet<Bytes>,
}

type Rows = BTreeMap<Bytes, Row>;

#[derive(Debug, Clone)]
struct Row {
    value: Bytes,
    /// Over key and value.
    crc: u32,
    /// Puts since the row was last removed.
    puts: u32,
}

impl ModelStore {
    /// An empty store. The file system holds its snapshots only.
    pub fn new(files: Arc<dyn Vfs>, options: ModelOptions) -> Self {
        Self { files, options, state: RwLock::default() }
    }

    /// The store as it is when it is opened after a crash now. This one does nothing more.
    pub fn crash(&self) -> Self {
        let mut state = self.state.write();
        state.poisoned = Some("it crashed".into());
        let durable = state.durable.clone();
        let reopened = State { visible: durable.clone(), durable, full: state.full, ..State::default() };
        Self { files: self.files.clone(), options: self.options, state: RwLock::new(reopened) }
    }

    /// Makes the first of the writes that wait for a flush durable, as a store does by itself.
    pub fn flush_some(&self, writes: usize) -> Result<()> {
        let mut state = self.state.write();
        state.check_running()?;
        let writes = writes.min(state.unflushed.len());
        state.flush(writes)
    }

    /// How many writes wait for a flush.
    pub fn unflushed_writes(&self) -> usize {
        self.state.read().unflushed.len()
    }

    /// Whether the disk is full: whatever needs it fails and stops the store.
    pub fn set_full(&self, full: bool) {
        self.state.write().full = full;
    }

    /// Flips a bit of a row's value on the disk, and in memory; false when there is no such bit.
    pub fn flip_bit(&self, key: &[u8], bit: usize) -> bool {
        let mut state = self.state.write();
        let flipped = flip(state.visible.row(key), bit);
        flip(state.durable.row(key), bit) || flipped
    }

    fn poison(&self, state: &mut State, error: Error) -> Error {
        state.poisoned.get_or_insert_with(|| error.to_string());
        error
    }
}

impl Tables {
    fn row(&mut self, key: &[u8]) -> Option<&mut Row> {
        Arc::make_mut(&mut self.rows).get_mut(key)
    }

    fn apply_all(&mut self, batches: &[Batch]) -> Result<()> {
        batches.iter().try_for_each(|batch| self.apply(batch))
    }

    fn apply(&mut self, batch: &Batch) -> Result<()> {
        let rows = Arc::make_mut(&mut self.rows);
        for op in batch {
            match op {
                Op::Put { key, value } => {
                    let puts = rows.get(key).map_or(0, |row| row.puts);
                    rows.insert(Bytes::copy_from_slice(key), Row::new(key, value, puts.saturating_add(1)));
                }
                Op::Delete { key } => {
                    rows.remove(key);
                    self.deleted.insert(Bytes::copy_from_slice(key));
                }
                Op::SingleDelete { key } => {
                    let puts = rows.remove(key).map_or(0, |row| row.puts);
                    if puts != 1 || self.deleted.contains(key) {
                        let text = format!("single delete after {puts} puts, or a plain delete, of {key:02x?}");
                        return Err(Error::Invalid(text));
                    }
                }
                Op::Add { key, amount } => {
                    let row = rows.get(key);
                    let Some(sum) = super::batch::sum(row.map(|row| &row.value[..]), [amount]) else {
                        return Err(Error::Invalid(format!("a number is added to what is none, at {key:02x?}")));
                    };
                    let puts = row.map_or(0, |row| row.puts);
                    let row = Row::new(key, &sum.to_le_bytes(), puts.saturating_add(1));
                    rows.insert(Bytes::copy_from_slice(key), row);
                }
                Op::DeleteRange { start, end } => {
                    let (start, end) = (Bytes::copy_from_slice(start), Bytes::copy_from_slice(end));
                    self.deleted.extract_if(start.clone()..end.clone(), |_| true).for_each(drop);
                    rows.extract_if(start..end, |_, _| true).for_each(drop);
                }
            }
        }
        Ok(())
    }
}

impl State {
    fn check_running(&self) -> Result<()> {
        match &self.poisoned {
            Some(reason) => Err(Error::Poisoned(reason.clone())),
            None => Ok(()),
        }
    }

    fn check_space(&self) -> Result<()> {
        if self.full { Err(Error::Full("the simulated disk is full".into())) } else { Ok(()) }
    }

    fn flush(&mut self, writes: usize) -> Result<()> {
        if writes == 0 {
            return Ok(());
        }
        self.check_space()?;
        for batch in self.unflushed.drain(..writes).flatten() {
            self.unflushed_bytes -= batch.bytes().len();
            self.durable.apply(&batch)?;
        }
        Ok(())
    }

    fn flush_all(&mut self) -> Result<()> {
        self.flush(self.unflushed.len())
    }
}

impl StateStore for ModelStore {
    fn view(&self) -> Box<dyn View + '_> {
        Box::new(self.model_view())
    }

    fn write(&self, batches: &[Batch]) -> Result<()> {
        let mut state = self.state.write();
        state.check_running()?;
        let written = state.check_space().and_then(|()| state.visible.apply_all(batches));
        written.map_err(|error| self.poison(&mut state, error))?;
        state.unflushed_bytes += batches.iter().map(|batch| batch.bytes().len()).sum::<usize>();
        state.unflushed.push(batches.to_vec());
        if state.unflushed_bytes > self.options.unflushed_bytes_max {
            state.flush_all().map_err(|error| self.poison(&mut state, error))?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        let mut state = self.state.write();
        state.check_running()?;
        state.flush_all().map_err(|error| self.poison(&mut state, error))
    }

    fn persisted(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let state = self.state.read();
        state.check_running()?;
        state.durable.rows.get(key).map(|row| row.read(key)).transpose()
    }

    fn ingest(&self, files: &[SnapshotFile], extra: &Batch) -> Result<()> {
        snapshot::puts_in_order(extra)?;
        self.state.read().check_running()?;
        let mut batches = Vec::with_capacity(files.len() + 1);
        for file in files {
            let rows = load(&*self.files, file)?;
            batches.push(if planted::has(Bug::IngestOverOld) { puts_alone(&rows)? } else { rows });
        }
        batches.push(extra.clone());
        let mut state = self.state.write();
        state.check_running()?;
        state
            .flush_all()
            .and_then(|()| state.check_space())
            .and_then(|()| state.visible.apply_all(&batches))
            .and_then(|()| state.durable.apply_all(&batches))
            .map_err(|error| self.poison(&mut state, error))?;
        for file in files {
            self.files.remove(&file.path).map_err(|error| self.poison(&mut state, Error::Io(error.to_string())))?;
        }
        Ok(())
    }

    fn reclaim(&self, range: &KeyRange) -> Result<()> {
        if range.is_empty() {
            return Err(Error::Invalid("an empty range".into()));
        }
        if !self.page(range, Direction::Forward, Limit { rows: 1, bytes: 1 })?.rows.is_empty() {
            return Err(Error::Invalid("a range with rows in it cannot be reclaimed".into()));
        }
        self.flush()
    }

    fn verify(&self) -> Result<()> {
        let state = self.state.read();
        state.check_running()?;
        state.durable.rows.iter().try_for_each(|(key, row)| row.read(key).map(drop))
    }

    fn usage(&self) -> Result<Usage> {
        let state = self.state.read();
        state.check_running()?;
        let disk = state.durable.rows.iter().map(|(key, row)| key.len() + row.value.len()).sum::<usize>();
        Ok(Usage { disk: disk as u64, unflushed: state.unflushed_bytes as u64, cache: 0 })
    }
}

impl ModelStore {
    fn model_view(&self) -> ModelView<'_> {
        let state = self.state.read();
        ModelView { store: self, rows: state.check_running().map(|()| state.visible.rows.clone()) }
    }
}

impl Read for ModelStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.view().get(key)
    }

    fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>> {
        self.view().multi_get(keys)
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        self.view().scan(range, direction, visit)
    }

    fn cursor(&self, bounds: &KeyRange) -> Result<Box<dyn Cursor + '_>> {
        Ok(Box::new(ModelCursor { view: self.model_view(), bounds: bounds.clone() }))
    }
}

#[derive(Debug)]
struct ModelView<'s> {
    store: &'s ModelStore,
    rows: Result<Arc<Rows>>,
}

impl ModelView<'_> {
    fn rows(&self) -> Result<&Rows> {
        match &self.rows {
            Ok(rows) => Ok(rows),
            Err(error) => Err(error.clone()),
        }
    }
}

impl Read for ModelView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.rows()?.get(key).map(|row| row.read(key)).transpose()
    }

    fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        let rows = self.rows()?;
        if range.is_empty() {
            return Ok(());
        }
        let bounds = (Bound::Included(&range.start), Bound::Excluded(&range.end));
        let mut rows = rows.range::<Bytes, _>(bounds);
        loop {
            let next = match direction {
                Direction::Forward => rows.next(),
                Direction::Reverse => rows.next_back(),
            };
            let Some((key, row)) = next else {
                return Ok(());
            };
            if let ControlFlow::Break(()) = visit(key, &row.read(key)?) {
                return Ok(());
            }
        }
    }

    fn cursor(&self, bounds: &KeyRange) -> Result<Box<dyn Cursor + '_>> {
        let view = ModelView { store: self.store, rows: self.rows.clone() };
        Ok(Box::new(ModelCursor { view, bounds: bounds.clone() }))
    }
}

#[derive(Debug)]
struct ModelCursor<'s> {
    view: ModelView<'s>,
    bounds: KeyRange,
}

impl Cursor for ModelCursor<'_> {
    fn scan(&mut self, range: &KeyRange, direction: Direction, visit: &mut Visitor<'_>) -> Result<()> {
        self.view.scan(&range.within(&self.bounds), direction, visit)
    }
}

impl View for ModelView<'_> {
    fn export(&self, ranges: &[KeyRange], directory: &Path) -> Result<Vec<SnapshotFile>> {
        self.store.state.read().check_running()?;
        let made = self.store.state.read().check_space().and_then(|()| {
            self.store.files.create_dir_all(directory).map_err(|error| Error::Io(error.to_string()))?;
            let mut sink = ModelSink {
                files: &*self.store.files,
                directory,
                target: self.store.options.snapshot_file_bytes,
                written: 0,
                rows: BatchBuilder::new(),
            };
            let scan = |range: &KeyRange, visit: &mut Visitor<'_>| self.scan(range, Direction::Forward, visit);
            snapshot::export(&scan, ranges, &mut sink)
        });
        made.map_err(|error| match error {
            Error::Full(_) | Error::Io(_) => self.store.poison(&mut self.store.state.write(), error),
            other => other,
        })
    }
}

/// A file's rows without the range that they replace.
fn puts_alone(file: &Batch) -> Result<Batch> {
    let mut rows = BatchBuilder::new();
    for op in file {
        if let Op::Put { key, value } = op {
            rows.put(key, value);
        }
    }
    rows.finish().map_err(|error| Error::Invalid(error.to_string()))
}

/// A snapshot file of the model is a batch: first the range that it replaces, then its rows.
struct ModelSink<'s> {
    files: &'s dyn Vfs,
    directory: &'s Path,
    target: u64,
    written: usize,
    rows: BatchBuilder,
}

impl Sink for ModelSink<'_> {
    fn is_full(&self) -> bool {
        self.rows.bytes_len() as u64 >= self.target
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.rows.put(key, value);
        Ok(())
    }

    fn end(&mut self, span: &KeyRange) -> Result<SnapshotFile> {
        let rows = std::mem::take(&mut self.rows).finish().map_err(|error| Error::Invalid(error.to_string()))?;
        let mut file = BatchBuilder::new();
        file.delete_range(span);
        file.append(&rows);
        let file = file.finish().map_err(|error| Error::Invalid(error.to_string()))?;
        let path = self.directory.join(format!("{:06}.rows", self.written));
        self.written += 1;
        write_file(self.files, self.directory, &path, file.bytes())
            .map_err(|error| Error::Io(format!("{}: {error}", path.display())))?;
        Ok(SnapshotFile { path, bytes: file.bytes().len() as u64, crc: crc32c::crc32c(file.bytes()) })
    }
}

impl Row {
    fn new(key: &[u8], value: &[u8], puts: u32) -> Self {
        let crc = crc32c::crc32c_append(crc32c::crc32c(key), value);
        Self { value: Bytes::copy_from_slice(value), crc, puts }
    }

    fn read(&self, key: &[u8]) -> Result<Bytes> {
        if crc32c::crc32c_append(crc32c::crc32c(key), &self.value) == self.crc {
            return Ok(self.value.clone());
        }
        Err(Error::Corrupt { file: "the simulated disk".into(), detail: format!("checksum of row {key:02x?}") })
    }
}

fn flip(row: Option<&mut Row>, bit: usize) -> bool {
    let Some(row) = row else {
        return false;
    };
    let mut value = row.value.to_vec();
    let Some(byte) = value.get_mut(bit / 8) else {
        return false;
    };
    *byte ^= 1 << (bit % 8);
    row.value = Bytes::from(value);
    true
}

fn write_file(files: &dyn Vfs, directory: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let file = files.open(path, Open::Create)?;
    file.truncate(0)?;
    file.write_at(bytes, 0)?;
    file.sync_all()?;
    files.sync_dir(directory)
}

fn load(files: &dyn Vfs, file: &SnapshotFile) -> Result<Batch> {
    let read = || -> std::io::Result<Vec<u8>> {
        let open = files.open(&file.path, Open::Existing)?;
        let mut bytes = vec![0; usize::try_from(open.len()?).map_err(std::io::Error::other)?];
        crate::vfs::read_exact_at(&*open, &mut bytes, 0)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| damaged(file, error.to_string()))?;
    if bytes.len() as u64 != file.bytes || crc32c::crc32c(&bytes) != file.crc {
        return Err(damaged(file, "length or checksum of the file"));
    }
    Batch::decode(bytes.into()).map_err(|error| damaged(file, error.to_string()))
}

#[cfg(test)]
mod tests;
