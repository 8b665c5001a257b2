//! The heart of a node's groups: one timer for all of them, in place of one in each.
//!
//! openraft wakes every group 25 times a second to ask whether a heartbeat or an election is due. Nearly always
//! neither is. Here one timer has the groups that this node leads send their heartbeats, all in the same moment, so
//! that they share frames; and openraft's timer of a group runs only while its leader is unknown or silent, which is
//! when elections are.
//!
//! # Contract
//! - A leader sends heartbeats as often as [`crate::RaftConfig::heartbeat`] says.
//! - The timer of a group that this node does not lead runs whenever an election may become due: a leader that is
//!   silent for two heartbeats and more. An election takes the lease and more, three heartbeats at least.
//!
//! # Used by
//! `groups.rs`, which starts it; `inbound.rs`, which notes what leaders say.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::group::Group;
use crate::groups::Groups;

/// What the beat knows of a group.
#[derive(Debug)]
pub(crate) struct Pulse {
    since: Instant,
    /// When its leader was heard last: milliseconds after `since`.
    heard: AtomicU64,
    /// Whether openraft's own timer runs.
    ticks: AtomicBool,
}

impl Pulse {
    /// As of a group that was just opened: openraft's timer runs.
    pub fn new() -> Self {
        Self { since: Instant::now(), heard: AtomicU64::new(0), ticks: AtomicBool::new(true) }
    }

    /// The group's leader has spoken, and this replica has taken it for the leader.
    pub fn hear(&self) {
        let millis = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(millis, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub fn ticks(&self) -> bool {
        self.ticks.load(Ordering::Relaxed)
    }

    fn silence(&self) -> Duration {
        self.since.elapsed().saturating_sub(Duration::from_millis(self.heard.load(Ordering::Relaxed)))
    }
}

/// Runs until the groups are shut down.
pub(crate) async fn beat(groups: Groups, heartbeat: Duration) {
    // Twice as often as heartbeats, so that the silence of a leader is seen in time.
    let mut every = interval(heartbeat / 2);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sends = false;
    loop {
        every.tick().await;
        sends = !sends;
        let open = groups.list();
        let beats = open.iter().filter(|group| group.regulate(heartbeat) && sends).map(Group::send_heartbeat);
        // A group that is too busy to take it has entries to send anyway; the others must not wait for it.
        drop(timeout(heartbeat / 2, join_all(beats)).await);
    }
}

impl Group {
    /// Runs openraft's timer if an election may become due; says whether this node leads.
    fn regulate(&self, heartbeat: Duration) -> bool {
        let leadership = *self.inner.leadership.borrow();
        let needed =
            !leadership.is_local && (leadership.leader.is_none() || self.inner.pulse.silence() >= heartbeat * 3 / 2);
        if self.inner.pulse.ticks.swap(needed, Ordering::Relaxed) != needed {
            self.inner.core.runtime_config().tick(needed);
        }
        leadership.is_local
    }

    async fn send_heartbeat(&self) {
        // A core that has stopped needs none.
        drop(self.inner.core.trigger().heartbeat().await);
    }
}
