//! One group's part of the node's segment log, as openraft reads and writes it.
//!
//! # Contract
//! Everything takes effect at once and becomes durable in call order, so only votes are waited for: an
//! append answers through its callback, and a truncation, a purge or a committed mark stands in the log
//! before whatever follows it. The committed mark stands after the entries that it covers.
//!
//! # Used by
//! openraft's core, its replication tasks and its state machine worker.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use bristlecone_proto::record;
use bristlecone_storage::log::{GroupLog, Log, LogEntry, LogError};
use bristlecone_storage::planted::{self, Bug};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use prost::Message;
use tokio::sync::oneshot;

use crate::entry::Entry;
use crate::purge::Growth;
use crate::shared::Shared;
use crate::types::{self, LogId, TypeConfig, Vote};

/// Bytes of entries that are read at a time for applying.
const APPLY_READ_BYTES: usize = 4 << 20;

/// The log of one group; a clone is a reader.
#[derive(Debug, Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
    log: Log,
    growth: Arc<Growth>,
    /// Bytes that a read for replication may return.
    read_bytes_max: usize,
}

impl LogStore {
    pub fn new(shared: Arc<Shared>, log: Log, growth: Arc<Growth>, read_bytes_max: usize) -> Self {
        Self { shared, log, growth, read_bytes_max }
    }

    fn state(&self) -> GroupLog {
        self.log.state(self.shared.group)
    }

    /// The part of a range that the log holds.
    fn clip(&self, range: &impl RangeBounds<u64>) -> Range<u64> {
        let state = self.state();
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index + 1,
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        let first = state.purged.map_or(0, |id| id.index + 1);
        let next = state.last.map_or(0, |id| id.index + 1);
        start.max(first)..end.min(next)
    }

    async fn fetch(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<Entry>, io::Error> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let entries = self.log.fetch(self.shared.group, range, bytes_max).await.map_err(io_error)?;
        entries.into_iter().map(decode).collect()
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, io::Error>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.fetch(self.clip(&range), usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.fetch(self.clip(&(start..end)), self.read_bytes_max).await
    }

    async fn entries_stream<R>(&mut self, range: R) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let reader = self.clone();
        let left = self.clip(&range);
        let reads = stream::try_unfold(left, move |mut left| {
            let reader = reader.clone();
            async move {
                let entries = reader.fetch(left.clone(), APPLY_READ_BYTES).await?;
                let Some(last) = entries.last() else {
                    return Ok::<_, io::Error>(None);
                };
                left.start = last.log_id.index + 1;
                Ok(Some((stream::iter(entries.into_iter().map(Ok)), left)))
            }
        });
        reads.try_flatten().boxed()
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.state().vote.map(decode_vote).transpose()
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.state();
        Ok(LogState {
            last_purged_log_id: state.purged.as_ref().map(types::log_id_from),
            last_log_id: state.last.as_ref().map(types::log_id_from),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        if planted::has(Bug::VoteNotKept) {
            return Ok(());
        }
        let (done, saved) = oneshot::channel();
        let bytes = Bytes::from(types::vote_to(vote).encode_to_vec());
        self.log.save_vote(self.shared.group, bytes, Box::new(move |result| drop(done.send(result))));
        match saved.await {
            Ok(result) => result.map_err(io_error),
            Err(_) => Err(io_error(LogError::Closed)),
        }
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(id) = committed {
            let bytes = Bytes::from(types::log_id_to(&id).encode_to_vec());
            self.log.save_committed(self.shared.group, bytes);
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let state = self.state();
        let Some(bytes) = state.committed else {
            return Ok(None);
        };
        let record = record::LogId::decode(bytes).map_err(|_| unreadable("committed mark"))?;
        // A log that was reset keeps its mark, which then is about entries that are gone.
        Ok(Some(types::log_id_from(&record)).min(state.last.as_ref().map(types::log_id_from)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<LogEntry> = entries
            .into_iter()
            .map(|entry| LogEntry { id: types::log_id_to(&entry.log_id), bytes: entry.encoded })
            .collect();
        let bytes = entries.iter().map(|entry| entry.bytes.len()).sum();
        self.shared.count_appended(bytes);
        self.growth.add(bytes);
        let done = move |result: Result<(), LogError>| callback.io_completed(result.map_err(io_error));
        self.log.append(self.shared.group, entries, Box::new(done));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        // A failure poisons the log, and the next append or vote reports it.
        self.log.truncate_after(self.shared.group, last.as_ref().map(types::log_id_to), Box::new(drop));
        Ok(())
    }

    async fn purge(&mut self, id: LogId) -> Result<(), io::Error> {
        self.log.purge(self.shared.group, types::log_id_to(&id));
        Ok(())
    }
}

pub(crate) fn decode_vote(bytes: Bytes) -> Result<Vote, io::Error> {
    record::Vote::decode(bytes).map(|record| types::vote_from(&record)).map_err(|_| unreadable("vote"))
}

fn decode(entry: LogEntry) -> Result<Entry, io::Error> {
    let decoded = Entry::decode(entry.bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    if decoded.log_id != types::log_id_from(&entry.id) {
        return Err(unreadable("entry's id"));
    }
    Ok(decoded)
}

fn unreadable(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the {what} in the log cannot be decoded"))
}

fn io_error(error: LogError) -> io::Error {
    io::Error::other(error)
}
