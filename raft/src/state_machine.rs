//! The replicated state of one group, as openraft drives it: apply, data-less and real snapshots, install.
//!
//! # Contract
//! - Any number of committed entries go to the state store in one write, together with the group's own
//!   row (applied id, membership, cursor): rows and applied id never disagree.
//! - An entry that may not be taken (`cursor.rs`, or keys outside the extent) changes the applied id
//!   alone and answers [`Outcome::Refused`]. An `Err` means that storage failed or that an entry is
//!   damaged or of a newer format: openraft stops the group.
//! - A snapshot that is *built* has no data: its meta is what the store has made durable, which is up to
//!   where the log may be purged. A snapshot that is *got* stands for the rows as they are when it is
//!   sent (`snapshot.rs` cuts them then).
//!
//! # Used by
//! openraft's state machine worker, one per group, one call at a time.

use std::io;
use std::sync::Arc;

use bristlecone_proto::record;
use bristlecone_storage::planted::{self, Bug};
use bristlecone_storage::runtime::Tasks;
use bristlecone_storage::state::{Batch, BatchBuilder, KeyRange, keys};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};

use crate::config::RaftConfig;
use crate::cursor::{Refusal, advance};
use crate::entry::{Entry, Envelope, Payload};
use crate::shared::{AppliedState, Shared};
use crate::snapshot::{SnapshotData, Snapshots};
use crate::types::{LogId, Outcome, SnapshotMeta, StoredMembership, TypeConfig};

type Snapshot = openraft::Snapshot<crate::types::CommittedLeaderId, u64, crate::types::Member, SnapshotData>;

/// One group's state machine.
#[derive(Debug)]
pub struct StateMachine {
    shared: Arc<Shared>,
    snapshots: Arc<Snapshots>,
    tasks: Tasks,
    entries_max: usize,
    bytes_max: usize,
    state_key: Vec<u8>,
    /// Keys that entries may write; follows the extent.
    writable: Option<KeyRange>,
}

/// Entries that go to the store together.
struct Work {
    next: AppliedState,
    batches: Vec<Batch>,
    bytes: usize,
    entries: usize,
    answers: Vec<(ApplyResponder<TypeConfig>, Outcome)>,
    /// Index and mutations of each entry that was taken, for the observer.
    taken: Vec<(u64, Batch)>,
}

impl StateMachine {
    pub(crate) fn new(shared: Arc<Shared>, snapshots: Arc<Snapshots>, tasks: Tasks, config: &RaftConfig) -> Self {
        let writable = shared.with_applied(AppliedState::writable);
        let state_key = keys::group_state(shared.group);
        let (entries_max, bytes_max) = (config.apply_entries_max, config.apply_bytes_max);
        Self { shared, snapshots, tasks, entries_max, bytes_max, state_key, writable }
    }

    fn begin_work(&self) -> Work {
        Work {
            next: self.shared.applied(),
            batches: Vec::new(),
            bytes: 0,
            entries: 0,
            answers: Vec::new(),
            taken: Vec::new(),
        }
    }

    fn take(&self, work: &mut Work, entry: Entry, answer: Option<ApplyResponder<TypeConfig>>) -> Result<(), io::Error> {
        work.next.log_id = Some(entry.log_id);
        work.entries += 1;
        work.bytes += entry.encoded.len();
        let outcome = match entry.payload {
            Payload::Blank => Outcome::Nothing,
            Payload::Membership(membership) => {
                work.next.set_membership(StoredMembership::new(Some(entry.log_id), membership));
                Outcome::Nothing
            }
            Payload::Normal(raw) => match self.judge(&work.next.cursor, &raw).map_err(|e| damaged(&entry.log_id, e))? {
                Ok((cursor, mutations)) => {
                    work.next.cursor = cursor;
                    if !mutations.is_empty() {
                        work.batches.push(mutations.clone());
                    }
                    work.taken.push((entry.log_id.index, mutations));
                    Outcome::Applied
                }
                Err(refusal) => Outcome::Refused(refusal),
            },
        };
        if let Some(answer) = answer {
            work.answers.push((answer, outcome));
        }
        Ok(())
    }

    /// What a normal entry comes to: the cursor after it and its mutations, or why it is refused.
    fn judge(
        &self,
        cursor: &record::Cursor,
        raw: &Bytes,
    ) -> Result<Result<(record::Cursor, Batch), Refusal>, crate::entry::EntryError> {
        let envelope = Envelope::decode(raw)?;
        let next = match advance(cursor, &envelope, raw) {
            Ok(next) => next,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Ok(mutations) = Batch::decode(envelope.mutations) else {
            return Ok(Err(Refusal::Malformed));
        };
        let within = match &self.writable {
            Some(range) => mutations.iter().all(|op| op.is_within(range)),
            None => mutations.is_empty(),
        };
        Ok(if within { Ok((next, mutations)) } else { Err(Refusal::Extent) })
    }

    /// Writes what was taken, then tells who waits. Runs on the caller's thread: without a log of its
    /// own a write is a copy into memory, far cheaper than a change of threads.
    fn commit(&self, mut work: Work) -> Result<(), io::Error> {
        if work.entries == 0 {
            return Ok(());
        }
        let mut own = BatchBuilder::new();
        own.put(&self.state_key, &work.next.to_row());
        work.batches.push(own.finish().map_err(io::Error::other)?);
        self.shared.store.write(&work.batches).map_err(io::Error::other)?;
        // Observers first: whoever waits for an index finds what they made of it.
        for (index, batch) in &work.taken {
            self.shared.observer.applied(self.shared.group, *index, batch);
        }
        self.shared.set_applied(work.next);
        for (answer, outcome) in work.answers {
            answer.send(outcome);
        }
        Ok(())
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = MarkBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok(self.shared.with_applied(|applied| (applied.log_id, (*applied.membership).clone())))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut work = self.begin_work();
        while let Some(item) = entries.next().await {
            let (entry, answer) = item?;
            self.take(&mut work, entry, answer)?;
            if work.entries >= self.entries_max || work.bytes >= self.bytes_max {
                self.commit(work)?;
                work = self.begin_work();
            }
        }
        self.commit(work)
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<MarkBuilder> {
        Some(MarkBuilder { shared: self.shared.clone(), tasks: self.tasks.clone(), flush: force })
    }

    async fn get_snapshot_builder(&mut self) -> MarkBuilder {
        MarkBuilder { shared: self.shared.clone(), tasks: self.tasks.clone(), flush: true }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> Result<(), io::Error> {
        self.snapshots.install(&self.shared, meta, snapshot).await.map_err(io::Error::other)?;
        self.writable = self.shared.with_applied(AppliedState::writable);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let meta = self.shared.with_applied(AppliedState::meta);
        if meta.last_log_id.is_none() {
            return Ok(None);
        }
        Ok(Some(Snapshot { meta, snapshot: SnapshotData::Rows(self.shared.clone()) }))
    }
}

/// Builds a snapshot without data: a mark of how far the store is durable.
#[derive(Debug)]
pub struct MarkBuilder {
    shared: Arc<Shared>,
    tasks: Tasks,
    /// Make durable what is applied first.
    flush: bool,
}

impl RaftSnapshotBuilder<TypeConfig> for MarkBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        if self.flush && !planted::has(Bug::PurgeAboveFlushed) {
            let store = self.shared.store.clone();
            self.tasks.blocking(move || store.flush()).await.map_err(io::Error::other)?;
        }
        let meta = match planted::has(Bug::PurgeAboveFlushed) {
            true => self.shared.with_applied(AppliedState::meta),
            false => self.shared.persisted().map_err(io::Error::other)?,
        };
        Ok(Snapshot { meta, snapshot: SnapshotData::Rows(self.shared.clone()) })
    }
}

fn damaged(log_id: &LogId, error: crate::entry::EntryError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("entry {log_id}: {error}"))
}
