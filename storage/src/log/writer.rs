//! Takes batches to the disk: on a thread of its own, or as a task where there are no threads.
//!
//! # Contract
//! One batch at a time: one write, one sync, then its callbacks. The first error stops the log; nothing is
//! written after it. The same functions write and sync in both drivers; the task awaits between the two, so that
//! a simulation can end it there.

use std::io;
use std::sync::Arc;
use std::thread;

use super::batch::Batch;
use super::error::LogError;
use super::files::SegmentFile;
use super::keeper;
use super::shared::Shared;
use crate::planted::{self, Bug};
use crate::runtime::Tasks;

pub(super) struct Writer {
    shared: Arc<Shared>,
    session: u32,
    /// Chain after the last batch.
    chain: u64,
    /// The segment that was written last.
    current: Option<(u64, Arc<SegmentFile>)>,
}

/// Starts the writer, which runs until the log is closed or stopped.
pub(super) fn start(shared: &Arc<Shared>, tasks: &Tasks, session: u32, chain: u64) -> io::Result<()> {
    let writer = Writer { shared: Arc::clone(shared), session, chain, current: None };
    if !tasks.has_threads() {
        tasks.spawn(writer.run_as_task());
        return Ok(());
    }
    thread::Builder::new().name("log-writer".to_owned()).spawn(move || writer.run_on_thread())?;
    let shared = Arc::clone(shared);
    thread::Builder::new().name("log-keeper".to_owned()).spawn(move || keeper::run(&shared))?;
    Ok(())
}

impl Writer {
    fn run_on_thread(mut self) {
        let shared = Arc::clone(&self.shared);
        let _ended = shared.ended_guard();
        while let Some(mut batch) = shared.wait_for_batch() {
            let result = self.write(&mut batch).and_then(|()| self.sync(&batch));
            match shared.finish(batch, result) {
                None => return,
                Some(true) => shared.wake_keeper(),
                Some(false) => {}
            }
        }
    }

    async fn run_as_task(mut self) {
        let shared = Arc::clone(&self.shared);
        let _ended = shared.ended_guard();
        while let Some(mut batch) = shared.next_batch().await {
            let mut result = self.write(&mut batch);
            if result.is_ok() {
                self.sync_time().await;
                result = self.sync(&batch);
            }
            let kept = match shared.finish(batch, result) {
                None => return,
                Some(true) => keeper::keep(&shared),
                Some(false) => Ok(()),
            };
            if let Err(error) = kept {
                return shared.stop(&error, Vec::new());
            }
        }
    }

    fn write(&mut self, batch: &mut Batch) -> Result<(), LogError> {
        if batch.is_empty() {
            return Ok(());
        }
        let file = self.file(batch)?;
        self.chain = batch.seal(self.session, self.chain);
        file.file.write_at(batch.sealed(), batch.offset).map_err(|error| stopped("write", &file, &error))
    }

    fn sync(&self, batch: &Batch) -> Result<(), LogError> {
        match &self.current {
            Some(_) if planted::has(Bug::AckBeforeSync) => Ok(()),
            Some((_, file)) if !batch.is_empty() => match file.file.sync_data() {
                Err(_) if planted::has(Bug::SyncErrorIgnored) => Ok(()),
                synced => synced.map_err(|error| stopped("sync", file, &error)),
            },
            _ => Ok(()),
        }
    }

    /// Lets other tasks run while the disk would be busy.
    async fn sync_time(&self) {
        let delay = self.current.as_ref().map(|(_, file)| file.file.sync_delay()).unwrap_or_default();
        if delay.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(delay).await;
        }
    }

    /// The file of a batch's segment; a new segment gets one here.
    fn file(&mut self, batch: &Batch) -> Result<Arc<SegmentFile>, LogError> {
        if let Some((segment, file)) = &self.current
            && *segment == batch.segment
        {
            return Ok(Arc::clone(file));
        }
        let known = self.shared.state.lock().segments.file(batch.segment);
        let file = match known {
            Some(file) => file,
            None => self.new_file(batch.segment)?,
        };
        self.current = Some((batch.segment, Arc::clone(&file)));
        Ok(file)
    }

    fn new_file(&self, segment: u64) -> Result<Arc<SegmentFile>, LogError> {
        let bytes = self.shared.options.segment_bytes;
        let file = self.shared.files.take(bytes).map_err(|error| no_segment(&self.shared, &error))?;
        self.shared.state.lock().segments.set_file(segment, Arc::clone(&file));
        Ok(file)
    }
}

fn stopped(what: &str, file: &SegmentFile, error: &io::Error) -> LogError {
    by_kind(format!("{what} of {}: {error}", file.path.display()), error)
}

/// A segment file could not be made.
pub(super) fn no_segment(shared: &Shared, error: &io::Error) -> LogError {
    by_kind(format!("a new segment in {}: {error}", shared.files.dir().display()), error)
}

fn by_kind(what: String, error: &io::Error) -> LogError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => LogError::Full(what.into()),
        _ => LogError::Poisoned(what.into()),
    }
}
