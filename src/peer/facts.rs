//! What this node knows of one peer, whoever found it out: its address, its newest incarnation, when
//! it was last heard of.
//!
//! # Contract
//! Connections watch the facts and end themselves when they contradict: when the peer was removed,
//! came back as a newer process, (for those dialled from here) has moved, or (for those served here)
//! has dialled the same lane again. A peer dials a lane again when it has given the former connection
//! up, of which bytes may still arrive: it is served no further from then on, so that messages on a
//! lane never overtake each other.
//!
//! # Used by
//! `peers.rs` (writes), `hello.rs` (admits), `link.rs` and `serve.rs` (watch).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::time::Instant;

use super::lane::{Lane, PerLane};

#[derive(Debug)]
pub(super) struct Facts {
    pub(super) node_id: u64,
    /// Zero of `heard`.
    since: Instant,
    /// Milliseconds after `since`, plus one; 0: never.
    heard: AtomicU64,
    standing: watch::Sender<Standing>,
    turns: PerLane<Turns>,
}

/// The connections from the peer on one lane, of which one at a time is served.
#[derive(Debug, Default)]
struct Turns {
    /// Number of the newest.
    newest: watch::Sender<u64>,
    served: Arc<Mutex<()>>,
}

/// The right of a connection to be served, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    lane: Lane,
    number: u64,
    _served: OwnedMutexGuard<()>,
}

#[derive(Debug, Clone, Default)]
struct Standing {
    address: Option<Arc<str>>,
    process: Process,
    removed: bool,
}

/// One run of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) incarnation: u64,
    /// 0: unknown.
    pub(super) boot: u64,
}

impl Facts {
    pub(super) fn new(node_id: u64) -> Self {
        Self {
            node_id,
            since: Instant::now(),
            heard: AtomicU64::new(0),
            standing: watch::Sender::default(),
            turns: PerLane::new(|_| Turns::default()),
        }
    }

    pub(super) fn address(&self) -> Option<Arc<str>> {
        self.standing.borrow().address.clone()
    }

    /// Returns whether that is news.
    pub(super) fn set_address(&self, address: &str) -> bool {
        self.standing.send_if_modified(|standing| {
            let news = standing.address.as_deref() != Some(address);
            if news {
                standing.address = Some(address.into());
            }
            news
        })
    }

    pub(super) fn remove(&self) {
        self.standing.send_modify(|standing| standing.removed = true);
    }

    /// Takes note of a process that presents itself as this node; `Err`: why it cannot be that, in
    /// words for people. Connections with an earlier process end.
    pub(super) fn admit(&self, process: Process) -> Result<(), String> {
        let node_id = self.node_id;
        let mut answer = Ok(());
        self.standing.send_if_modified(|standing| {
            let known = standing.process;
            if process.incarnation < known.incarnation {
                answer = Err(format!(
                    "node {node_id} is already known in incarnation {}; incarnation {} has the data directory of \
                     an earlier time",
                    known.incarnation, process.incarnation
                ));
            } else if process.incarnation == known.incarnation && process.boot != known.boot && known.boot != 0 {
                answer = Err(format!(
                    "node {node_id} already runs as another process; this one has a copy of its data directory"
                ));
            } else if process != known {
                standing.process = process;
                return true;
            }
            false
        });
        answer
    }

    /// Something was received from the peer just now.
    pub(super) fn hear(&self) {
        let millis = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.heard.store(millis + 1, Ordering::Relaxed);
    }

    /// When something was last received from the peer, to the millisecond.
    pub(super) fn last_heard(&self) -> Option<Instant> {
        let millis = self.heard.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.since + Duration::from_millis(millis))
    }

    /// Waits until a connection with `process` (dialled at `address`, if from here) must end; says why.
    pub(super) async fn superseded(&self, process: Process, address: Option<&str>) -> &'static str {
        let mut standing = self.standing.subscribe();
        loop {
            {
                let standing = standing.borrow_and_update();
                if standing.removed {
                    return "the node was removed";
                }
                if standing.process != process {
                    return "the node was started anew";
                }
                if address.is_some() && standing.address.as_deref() != address {
                    return "the node has another address now";
                }
            }
            if standing.changed().await.is_err() {
                // The sender lives in `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until the former connection from the peer on this lane has ended, which is at once;
    /// `None` when there is a newer one already.
    pub(super) async fn turn(&self, lane: Lane) -> Option<Turn> {
        let turns = self.turns.get(lane);
        let mut number = 0;
        turns.newest.send_modify(|newest| {
            *newest += 1;
            number = *newest;
        });
        let served = Arc::clone(&turns.served).lock_owned().await;
        (*turns.newest.borrow() == number).then_some(Turn { lane, number, _served: served })
    }

    /// Waits until the peer has dialled the lane again.
    pub(super) async fn overtaken(&self, turn: &Turn) {
        // Cannot fail: the sender lives in `self`.
        let _ = self.turns.get(turn.lane).newest.subscribe().wait_for(|newest| *newest != turn.number).await;
    }

    /// Waits until the node is removed.
    pub(super) async fn removed(&self) {
        // Cannot fail: the sender lives in `self`.
        let _ = self.standing.subscribe().wait_for(|standing| standing.removed).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(incarnation: u64, boot: u64) -> Process {
        Process { incarnation, boot }
    }

    #[test]
    fn only_one_process_at_a_time_is_a_node() {
        let facts = Facts::new(3);
        assert_eq!(facts.admit(process(4, 40)), Ok(()));
        assert_eq!(facts.admit(process(4, 40)), Ok(()));
        assert!(facts.admit(process(4, 41)).expect_err("a twin").contains("copy of its data directory"));
        assert_eq!(facts.admit(process(5, 50)), Ok(()));
        assert!(facts.admit(process(4, 40)).expect_err("an older one").contains("incarnation 5"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_when_the_facts_change() {
        let facts = Facts::new(3);
        facts.set_address("a:1");
        facts.admit(process(1, 0)).expect("first");
        let mut watch = Box::pin(facts.superseded(process(1, 0), Some("a:1")));
        assert!(futures::poll!(&mut watch).is_pending());
        assert!(!facts.set_address("a:1"));
        assert!(futures::poll!(&mut watch).is_pending());
        assert!(facts.set_address("b:1"));
        assert_eq!(watch.await, "the node has another address now");
        facts.admit(process(2, 0)).expect("newer");
        assert_eq!(facts.superseded(process(1, 0), None).await, "the node was started anew");
        facts.remove();
        assert_eq!(facts.superseded(process(2, 0), None).await, "the node was removed");
        facts.removed().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_connection_of_a_lane_is_served() {
        let facts = Facts::new(3);
        let first = facts.turn(Lane::Calls).await.expect("nobody else");
        assert!(facts.turn(Lane::Control).await.is_some());
        let mut second = Box::pin(facts.turn(Lane::Calls));
        assert!(futures::poll!(&mut second).is_pending());
        let mut third = Box::pin(facts.turn(Lane::Calls));
        assert!(futures::poll!(&mut third).is_pending());
        facts.overtaken(&first).await;
        drop(first);
        assert!(second.await.is_none());
        let third = third.await.expect("the newest");
        assert!(futures::poll!(Box::pin(facts.overtaken(&third))).is_pending());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_noted_when_a_peer_was_heard() {
        let facts = Facts::new(3);
        assert_eq!(facts.last_heard(), None);
        tokio::time::advance(Duration::from_millis(70)).await;
        facts.hear();
        let heard = Instant::now();
        tokio::time::advance(Duration::from_millis(70)).await;
        assert_eq!(facts.last_heard(), Some(heard));
    }
}
