//! What the parts of one group have in common: its rows' place in the state store, and its applied state.
//!
//! # Used by
//! `state_machine.rs` (writes it), `group.rs`, `snapshot.rs`, `purge.rs` (read it).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bristlecone_proto::record;
use bristlecone_storage::state::{Batch, BatchBuilder, KeyRange, Read, StateStore, keys};
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::watch;

use crate::cursor::{EpochId, epoch_of};
use crate::error::Error;
use crate::types::{self, LogId, SnapshotMeta, StoredMembership};
use crate::{GroupId, Observer};

/// See [`Shared::keep_log_after`].
#[derive(Debug)]
pub(crate) struct KeptLog {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for KeptLog {
    fn drop(&mut self) {
        self.shared.kept.lock().remove(&self.number);
    }
}

/// One group's applied state and where it is kept.
#[derive(Debug)]
pub(crate) struct Shared {
    pub group: GroupId,
    pub store: Arc<dyn StateStore>,
    pub observer: Arc<dyn Observer>,
    applied: Mutex<AppliedState>,
    /// Index of the last applied entry, for those who wait.
    index: watch::Sender<u64>,
    /// Snapshots that are being sent: entries after these indexes are needed. By a running number.
    kept: Mutex<BTreeMap<u64, u64>>,
    /// Encoded bytes of entries that were appended to the group's log by this process.
    appended_bytes: AtomicU64,
}

/// A group's state as of its last applied entry: the rows `State` and `Extent`, decoded.
#[derive(Debug, Clone, Default)]
pub(crate) struct AppliedState {
    pub log_id: Option<LogId>,
    pub membership: Arc<StoredMembership>,
    /// `membership` as a field of the `State` row, encoded once for the many rows that repeat it.
    membership_field: Bytes,
    pub cursor: record::Cursor,
    /// `None` while the replica waits for its first snapshot.
    pub extent: Option<record::Extent>,
}

impl Shared {
    /// Reads the group's rows; `None` when the store has no such group.
    pub fn load(
        group: GroupId,
        store: Arc<dyn StateStore>,
        observer: Arc<dyn Observer>,
    ) -> Result<Option<Self>, Error> {
        let Some(applied) = AppliedState::read(group, &*store)? else {
            return Ok(None);
        };
        let (index, _) = watch::channel(applied.index());
        Ok(Some(Self {
            group,
            store,
            observer,
            applied: Mutex::new(applied),
            index,
            kept: Mutex::new(BTreeMap::new()),
            appended_bytes: AtomicU64::new(0),
        }))
    }

    pub fn applied(&self) -> AppliedState {
        self.applied.lock().clone()
    }

    /// Looks at the applied state without copying it.
    pub fn with_applied<R>(&self, look: impl FnOnce(&AppliedState) -> R) -> R {
        look(&self.applied.lock())
    }

    pub fn set_applied(&self, applied: AppliedState) {
        let index = applied.index();
        *self.applied.lock() = applied;
        self.index.send_replace(index);
    }

    pub fn watch_index(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }

    pub fn epoch(&self) -> EpochId {
        epoch_of(&self.applied.lock().cursor)
    }

    /// What of the applied state would survive a crash now.
    pub fn persisted(&self) -> Result<SnapshotMeta, Error> {
        let row = self.store.persisted(&keys::group_state(self.group)).map_err(storage)?;
        let Some(row) = row else {
            return Ok(SnapshotMeta::default());
        };
        let state = record::GroupState::decode(row).map_err(|_| damaged(self.group))?;
        Ok(SnapshotMeta {
            last_log_id: state.applied.as_ref().map(types::log_id_from),
            last_membership: membership_of(&state).ok_or_else(|| damaged(self.group))?,
        })
    }

    /// Keeps the log after `index` for as long as the guard lives: a snapshot is on its way that ends there.
    pub fn keep_log_after(self: &Arc<Self>, index: u64) -> KeptLog {
        let mut kept = self.kept.lock();
        let number = kept.last_key_value().map_or(0, |(last, _)| last + 1);
        kept.insert(number, index);
        KeptLog { shared: self.clone(), number }
    }

    /// The log up to here is of no use to a snapshot that is on its way.
    pub fn kept_after(&self) -> Option<u64> {
        self.kept.lock().values().min().copied()
    }

    pub fn count_appended(&self, bytes: usize) {
        self.appended_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn appended_bytes(&self) -> u64 {
        self.appended_bytes.load(Ordering::Relaxed)
    }
}

impl AppliedState {
    pub fn read(group: GroupId, rows: &(impl Read + ?Sized)) -> Result<Option<Self>, Error> {
        let Some(state) = rows.get(&keys::group_state(group)).map_err(storage)? else {
            return Ok(None);
        };
        let state = record::GroupState::decode(state).map_err(|_| damaged(group))?;
        let extent = match rows.get(&keys::group_extent(group)).map_err(storage)? {
            Some(row) => Some(record::Extent::decode(row).map_err(|_| damaged(group))?),
            None => None,
        };
        Ok(Some(Self::from_records(&state, extent).ok_or_else(|| damaged(group))?))
    }

    pub fn from_records(state: &record::GroupState, extent: Option<record::Extent>) -> Option<Self> {
        Some(Self::new(
            state.applied.as_ref().map(types::log_id_from),
            membership_of(state)?,
            state.cursor.unwrap_or_default(),
            extent,
        ))
    }

    pub fn new(
        log_id: Option<LogId>,
        membership: StoredMembership,
        cursor: record::Cursor,
        extent: Option<record::Extent>,
    ) -> Self {
        let mut state = Self { log_id, cursor, extent, ..Self::default() };
        state.set_membership(membership);
        state
    }

    pub fn set_membership(&mut self, membership: StoredMembership) {
        let record = types::stored_membership_to(&membership);
        let alone = record::GroupState { membership: Some(record), ..Default::default() };
        self.membership_field = Bytes::from(alone.encode_to_vec());
        self.membership = Arc::new(membership);
    }

    pub fn index(&self) -> u64 {
        self.log_id.map_or(0, |id| id.index)
    }

    pub fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.log_id, last_membership: (*self.membership).clone() }
    }

    /// The `State` row, which is `to_record` encoded; fields of a message may come in any order.
    pub fn to_row(&self) -> Vec<u8> {
        let rest = record::GroupState {
            applied: self.log_id.as_ref().map(types::log_id_to),
            membership: None,
            cursor: Some(self.cursor),
        };
        let mut row = Vec::with_capacity(rest.encoded_len() + self.membership_field.len());
        rest.encode_raw(&mut row);
        row.extend_from_slice(&self.membership_field);
        row
    }

    pub fn to_record(&self) -> record::GroupState {
        record::GroupState {
            applied: self.log_id.as_ref().map(types::log_id_to),
            membership: Some(types::stored_membership_to(&self.membership)),
            cursor: Some(self.cursor),
        }
    }

    /// The keys that the group's entries may write; `None` before the first snapshot.
    pub fn writable(&self) -> Option<KeyRange> {
        self.extent.as_ref().map(slots)
    }
}

/// The rows of an extent's slots.
pub(crate) fn slots(extent: &record::Extent) -> KeyRange {
    let slot = |number: u32| keys::Slot::try_from(number).unwrap_or(keys::Slot::MAX);
    keys::slot_range(slot(extent.first_slot), slot(extent.end_slot))
}

/// Whether two extents have a slot in common.
pub(crate) fn overlap(a: &record::Extent, b: &record::Extent) -> bool {
    a.first_slot < b.end_slot && b.first_slot < a.end_slot
}

/// A batch that writes a group's own rows.
pub(crate) fn group_rows(group: GroupId, applied: &AppliedState) -> Batch {
    let mut batch = BatchBuilder::new();
    batch.put(&keys::group_state(group), &applied.to_row());
    if let Some(extent) = &applied.extent {
        batch.put(&keys::group_extent(group), &extent.encode_to_vec());
    }
    batch.finish().expect("two short rows break no limit")
}

fn membership_of(state: &record::GroupState) -> Option<StoredMembership> {
    match &state.membership {
        Some(record) => types::stored_membership_from(record),
        None => Some(StoredMembership::default()),
    }
}

pub(crate) fn storage(error: bristlecone_storage::state::Error) -> Error {
    Error::Storage(error.to_string())
}

fn damaged(group: GroupId) -> Error {
    Error::Storage(format!("the rows of group {group} cannot be decoded"))
}
