//! Snapshot files that RocksDB can ingest.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rocksdb::SstFileWriter;

use super::{BULK_READ_BYTES, RocksStore, io_error};
use crate::state::error::Result;
use crate::state::range::KeyRange;
use crate::state::snapshot::{Sink, damaged};
use crate::state::store::SnapshotFile;

pub(super) struct SstSink<'s> {
    store: &'s RocksStore,
    directory: &'s Path,
    written: usize,
    open: Option<(PathBuf, SstFileWriter<'s>)>,
}

impl<'s> SstSink<'s> {
    pub(super) fn new(store: &'s RocksStore, directory: &'s Path) -> Self {
        Self { store, directory, written: 0, open: None }
    }

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

/// Writes the rows that go on top of a snapshot as a file of their own.
pub(super) fn write_extra(store: &RocksStore, puts: &[(&[u8], &[u8])], directory: &Path) -> Result<PathBuf> {
    let path = directory.join("extra.sst");
    let write = || {
        let mut file = SstFileWriter::create(&store.sst);
        file.open(&path)?;
        puts.iter().try_for_each(|(key, value)| file.put(key, value))?;
        file.finish()
    };
    write().map_err(|error| store.write_failed(error))?;
    Ok(path)
}

/// Whether the file is what it was when it was written.
pub(super) fn check_file(file: &SnapshotFile) -> Result<()> {
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
