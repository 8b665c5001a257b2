//! Snapshots of groups on this node: cut from the rows, received in pieces, installed.
//!
//! # Contract
//! A snapshot is the rows of the group's slots and the group's own rows, as files; it is cut from one
//! view of the store, so its applied id is the one among its rows. Files live in the staging directory,
//! which is emptied at every start.
//!
//! | dies after … | what is left | what recovers it |
//! | --- | --- | --- |
//! | some files cut or received | files in staging | emptied at the start; the leader sends anew |
//! | `ingest` | all rows of the snapshot, durably | the log is reset to them when the group opens |
//!
//! # Used by
//! `network.rs` (sends), `inbound.rs` (receives), `state_machine.rs` (installs).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bristlecone_proto::record;
use bristlecone_storage::planted::{self, Bug};
use bristlecone_storage::runtime::{Entropy, Tasks};
use bristlecone_storage::state::{Batch, SnapshotFile, keys};
use bristlecone_storage::vfs::{Open, Vfs, VfsFile};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::GroupId;
use crate::config::RaftConfig;
use crate::error::Error;
use crate::frame::{SnapshotChunk, SnapshotOpen};
use crate::shared::{AppliedState, Shared, overlap, slots, storage};
use crate::types::{self, SnapshotMeta, Vote};

/// Files that one snapshot may have.
const FILES_MAX: usize = 4096;
/// A transfer without a chunk for so long gives way to another one.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// What openraft passes on as a snapshot's content.
#[derive(Debug)]
pub enum SnapshotData {
    /// The rows of this node, to be cut when they are needed.
    Rows(Arc<Shared>),
    Files(Files),
}

/// A snapshot in files.
#[derive(Debug)]
pub struct Files {
    pub(crate) applied: AppliedState,
    pub(crate) files: Vec<SnapshotFile>,
    _staging: Staging,
}

/// All snapshots that a node cuts and receives.
#[derive(Debug)]
pub(crate) struct Snapshots {
    vfs: Arc<dyn Vfs>,
    tasks: Tasks,
    staging: PathBuf,
    next: AtomicU64,
    entropy: Arc<dyn Entropy>,
    /// One permit for each snapshot that may be sent at a time.
    pub sends: Semaphore,
    incoming_max: usize,
    incoming: Mutex<BTreeMap<GroupId, Incoming>>,
    /// Which group of this node holds which slots.
    extents: Mutex<BTreeMap<GroupId, record::Extent>>,
}

/// A snapshot on its way here.
#[derive(Debug)]
struct Incoming {
    transfer: u64,
    vote: Vote,
    applied: AppliedState,
    files: Vec<SnapshotFile>,
    /// The file that is being filled, and its bytes so far.
    at: (usize, u64),
    staging: Staging,
    touched: Instant,
}

/// A directory that goes when its owner does.
#[derive(Debug)]
struct Staging {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next start.
        drop(self.vfs.remove_dir_all(&self.path));
    }
}

impl Snapshots {
    /// Empties the staging directory.
    pub fn new(vfs: Arc<dyn Vfs>, tasks: Tasks, entropy: Arc<dyn Entropy>, config: &RaftConfig) -> Result<Self, Error> {
        let staging = config.staging_dir.clone();
        let emptied = vfs.remove_dir_all(&staging).and_then(|()| vfs.create_dir_all(&staging));
        emptied.map_err(|error| Error::Storage(format!("staging directory: {error}")))?;
        Ok(Self {
            vfs,
            tasks,
            staging,
            next: AtomicU64::new(0),
            entropy,
            sends: Semaphore::new(config.snapshots_max),
            incoming_max: config.snapshots_max,
            incoming: Mutex::new(BTreeMap::new()),
            extents: Mutex::new(BTreeMap::new()),
        })
    }

    /// Gives slots to a group, in place of those that it held. `Err` names another group that holds some.
    pub fn claim(&self, group: GroupId, extent: Option<record::Extent>) -> Result<(), GroupId> {
        let mut extents = self.extents.lock();
        let Some(extent) = extent else {
            return Ok(());
        };
        match extents.iter().find(|(other, held)| **other != group && overlap(held, &extent)) {
            Some((other, _)) => Err(*other),
            None => {
                extents.insert(group, extent);
                Ok(())
            }
        }
    }

    /// Writes the group's rows, as they are now, to files.
    pub async fn cut(&self, shared: &Arc<Shared>) -> Result<Files, Error> {
        let staging = self.new_staging("cut", shared.group)?;
        let (store, group, path) = (shared.store.clone(), shared.group, staging.path.clone());
        let cut = move || {
            let view = store.view();
            let applied = AppliedState::read(group, &*view)?.ok_or(Error::NoSuchGroup(group))?;
            let mut ranges = vec![keys::group_rows(group)];
            if let Some(extent) = &applied.extent {
                // The first slot always, or no cluster would ever form.
                let half = (extent.first_slot + extent.end_slot).div_ceil(2);
                let short = record::Extent { end_slot: half, ..*extent };
                ranges.insert(0, slots(if planted::has(Bug::SnapshotCutShort) { &short } else { extent }));
            }
            let files = view.export(&ranges, &path).map_err(storage)?;
            Ok::<_, Error>((applied, files))
        };
        let (applied, files) = self.tasks.blocking(cut).await?;
        Ok(Files { applied, files, _staging: staging })
    }

    /// Reads a piece of a cut file. Blocks on the disk.
    pub fn open_file(&self, file: &SnapshotFile) -> Result<Arc<dyn VfsFile>, Error> {
        self.vfs.open(&file.path, Open::Existing).map_err(|error| Error::Storage(error.to_string()))
    }

    /// Begins to receive; a transfer for the same group that was under way is given up.
    pub fn open(&self, group: GroupId, open: &SnapshotOpen) -> Result<(), String> {
        let vote = open.vote.as_ref().map(types::vote_from).ok_or("no vote")?;
        let state = open.state.as_ref().ok_or("no state")?;
        let applied = AppliedState::from_records(state, open.extent).ok_or("state cannot be decoded")?;
        if let Some(extent) = &applied.extent {
            let extents = self.extents.lock();
            if let Some((other, _)) = extents.iter().find(|(other, held)| **other != group && overlap(held, extent)) {
                return Err(format!("group {other} holds some of its slots"));
            }
        }
        if open.files.len() > FILES_MAX {
            return Err(format!("more than {FILES_MAX} files"));
        }
        let mut incoming = self.incoming.lock();
        incoming.remove(&group);
        let now = Instant::now();
        if incoming.len() >= self.incoming_max {
            incoming.retain(|_, transfer| now - transfer.touched < IDLE_MAX);
        }
        if incoming.len() >= self.incoming_max {
            return Err("busy with other snapshots".to_string());
        }
        let staging = self.new_staging("in", group).map_err(|error| error.to_string())?;
        let file = |(number, head): (usize, &crate::frame::SnapshotFileHead)| SnapshotFile {
            path: staging.path.join(format!("{number:06}.sst")),
            bytes: head.bytes,
            crc: head.crc,
        };
        let files = open.files.iter().enumerate().map(file).collect();
        let transfer = open.transfer;
        incoming.insert(group, Incoming { transfer, vote, applied, files, at: (0, 0), staging, touched: now });
        Ok(())
    }

    /// Takes the next piece; pieces come in order.
    pub async fn chunk(&self, group: GroupId, chunk: SnapshotChunk, bytes: Bytes) -> Result<(), String> {
        if crc32c::crc32c(&bytes) != chunk.crc {
            return Err("checksum of a chunk does not fit".to_string());
        }
        let file = {
            let mut incoming = self.incoming.lock();
            let transfer = find(&mut incoming, group, chunk.transfer)?;
            transfer.touched = Instant::now();
            transfer.skip_full_files();
            let number = usize::try_from(chunk.file).map_err(|_| "no such file")?;
            if (number, chunk.offset) != transfer.at {
                return Err("a chunk is missing".to_string());
            }
            let file = transfer.files.get(number).ok_or("no such file")?;
            if chunk.offset + bytes.len() as u64 > file.bytes {
                return Err("a file is longer than announced".to_string());
            }
            file.clone()
        };
        let vfs = self.vfs.clone();
        let (offset, len) = (chunk.offset, bytes.len() as u64);
        let write = move || {
            let open = vfs.open(&file.path, Open::Create)?;
            open.write_at(&bytes, offset)?;
            if offset + len == file.bytes { open.sync_all() } else { Ok(()) }
        };
        self.tasks.blocking(write).await.map_err(|error| error.to_string())?;
        let mut incoming = self.incoming.lock();
        let transfer = find(&mut incoming, group, chunk.transfer)?;
        transfer.at.1 = offset + len;
        Ok(())
    }

    /// Ends a transfer: the snapshot is complete and ready to be installed.
    pub async fn done(&self, group: GroupId, transfer: u64) -> Result<(Vote, SnapshotMeta, SnapshotData), String> {
        let taken = {
            let mut incoming = self.incoming.lock();
            let found = find(&mut incoming, group, transfer)?;
            found.skip_full_files();
            if found.at != (found.files.len(), 0) {
                return Err("files are missing".to_string());
            }
            incoming.remove(&group).ok_or("no such transfer")?
        };
        let (vfs, path) = (self.vfs.clone(), taken.staging.path.clone());
        self.tasks.blocking(move || vfs.sync_dir(&path)).await.map_err(|error| error.to_string())?;
        let meta = taken.applied.meta();
        let files = Files { applied: taken.applied, files: taken.files, _staging: taken.staging };
        Ok((taken.vote, meta, SnapshotData::Files(files)))
    }

    /// Replaces the group's rows by the snapshot's, durably.
    pub async fn install(&self, shared: &Arc<Shared>, meta: &SnapshotMeta, data: SnapshotData) -> Result<(), Error> {
        let snapshot = match data {
            SnapshotData::Files(files) => files,
            SnapshotData::Rows(source) => self.cut(&source).await?,
        };
        if snapshot.applied.log_id != meta.last_log_id {
            return Err(Error::Refused("the snapshot is not what it was announced as".to_string()));
        }
        self.claim(shared.group, snapshot.applied.extent).map_err(Error::ExtentTaken)?;
        let (store, files) = (shared.store.clone(), snapshot.files.clone());
        self.tasks.blocking(move || store.ingest(&files, &Batch::default())).await.map_err(storage)?;
        let index = snapshot.applied.index();
        shared.observer.installed(shared.group, index);
        shared.set_applied(snapshot.applied);
        Ok(())
    }

    /// A group is gone: gives up what is being received for it, and its slots.
    pub fn forget(&self, group: GroupId) {
        self.incoming.lock().remove(&group);
        self.extents.lock().remove(&group);
    }

    /// A number that no other transfer has.
    pub fn draw_transfer(&self) -> u64 {
        // Half of the bits are enough.
        self.entropy.next() as u64
    }

    pub async fn blocking<R, F>(&self, work: F) -> R
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.tasks.blocking(work).await
    }

    fn new_staging(&self, what: &str, group: GroupId) -> Result<Staging, Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.staging.join(format!("{what}-{group}-{number}"));
        self.vfs.create_dir_all(&path).map_err(|error| Error::Storage(format!("staging directory: {error}")))?;
        Ok(Staging { vfs: self.vfs.clone(), path })
    }
}

impl Incoming {
    fn skip_full_files(&mut self) {
        while self.files.get(self.at.0).is_some_and(|file| self.at.1 == file.bytes) {
            self.at = (self.at.0 + 1, 0);
        }
    }
}

fn find(incoming: &mut BTreeMap<GroupId, Incoming>, group: GroupId, transfer: u64) -> Result<&mut Incoming, String> {
    incoming.get_mut(&group).filter(|found| found.transfer == transfer).ok_or_else(|| "no such transfer".to_string())
}
