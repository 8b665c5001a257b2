//! Bugs that the simulation plants, to see whether it finds them. In every other program none is planted.
//!
//! # Contract
//! One relaxed load of a byte where a bug could be; only the program `sim` ever writes it. Each bug is what an honest
//! mistake in that place would do.

use std::sync::atomic::{AtomicU8, Ordering};

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// Entries count as synced when they are only written.
    AckBeforeSync = 1,
    /// A vote is answered before it is on the disk.
    VoteNotKept,
    /// Reads are answered without confirming leadership.
    ReadWithoutBarrier,
    /// Request ids are not looked at.
    DedupOff,
    /// A new leader does not look for deadlines.
    DeadlinesForgotten,
    /// A completion of an activity that is refused is answered as if it had been taken.
    DoubleCompletion,
    /// Snapshots lack the second half of their slots.
    SnapshotCutShort,
    /// Shards follow every step of the wall clock at once.
    WallClock,
    /// The shard goes on when the outcome of a batch is unknown, and replicas apply whatever comes.
    LostMemoryApplied,
    /// A new leader does not look for effects that are still to be delivered.
    OutboxForgotten,
    /// The log forgets entries that the rows do not hold durably.
    PurgeAboveFlushed,
    /// The Started event is made anew when the completion comes.
    StartedRewritten,
    /// A failed sync is taken for a good one.
    SyncErrorIgnored,
    /// A call whose outcome is unknown is made again as if it were another.
    RetriedAsNew,
    /// A refused entry leaves a hole: the shard goes on with the next number, and replicas take it.
    HoleApplied,
    /// A snapshot is added to the rows that are there, and does not replace them.
    IngestOverOld,
    /// Tasks that were offered once are never offered again.
    OfferedOnce,
    /// A replica that has not applied all of a history gives what it has.
    ShortPages,
}

impl Bug {
    pub const ALL: [Self; 18] = [
        Self::AckBeforeSync,
        Self::VoteNotKept,
        Self::ReadWithoutBarrier,
        Self::DedupOff,
        Self::DeadlinesForgotten,
        Self::DoubleCompletion,
        Self::SnapshotCutShort,
        Self::WallClock,
        Self::LostMemoryApplied,
        Self::OutboxForgotten,
        Self::PurgeAboveFlushed,
        Self::StartedRewritten,
        Self::SyncErrorIgnored,
        Self::RetriedAsNew,
        Self::HoleApplied,
        Self::IngestOverOld,
        Self::OfferedOnce,
        Self::ShortPages,
    ];

    pub fn name(self) -> String {
        format!("{self:?}")
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }
}

static PLANTED: AtomicU8 = AtomicU8::new(0);

/// Plants a bug, for the rest of the process's life.
pub fn plant(bug: Bug) {
    PLANTED.store(bug as u8, Ordering::Relaxed);
}

/// Whether a bug is planted.
#[inline]
pub fn has(bug: Bug) -> bool {
    PLANTED.load(Ordering::Relaxed) == bug as u8
}
