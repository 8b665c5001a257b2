//! How this node is: whether it serves, and what it sheds when it cannot take everything.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

/// The health of a node, as its parts report it.
#[derive(Debug)]
pub struct Health {
    ready: watch::Sender<bool>,
    /// The metadata is as new as the cluster's was after this start.
    caught_up: AtomicBool,
    shedding: Mutex<String>,
    /// No new workflows: the disk is nearly full.
    refuses_starts: AtomicBool,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            ready: watch::Sender::new(false),
            caught_up: AtomicBool::new(false),
            shedding: Mutex::default(),
            refuses_starts: AtomicBool::new(false),
        }
    }
}

impl Health {
    /// Whether the node has a quorum and its metadata.
    pub fn set_ready(&self, ready: bool) {
        self.ready.send_if_modified(|known| std::mem::replace(known, ready) != ready);
    }

    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    pub fn watch_ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// The metadata has everything that the cluster had agreed on before this node's start.
    pub fn set_caught_up(&self) {
        self.caught_up.store(true, Ordering::Release);
    }

    /// Until then what the metadata lacks may exist all the same.
    pub fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    /// Why starts are refused; empty: they are not.
    pub fn set_shedding(&self, reason: &str) {
        let mut shedding = self.shedding.lock();
        if *shedding != reason {
            match reason {
                "" => tracing::info!("takes new workflows again"),
                _ => tracing::warn!(reason, "refuses new workflows"),
            }
            *shedding = reason.to_string();
        }
        self.refuses_starts.store(!reason.is_empty(), Ordering::Release);
    }

    pub fn shedding(&self) -> String {
        self.shedding.lock().clone()
    }

    pub fn refuses_starts(&self) -> bool {
        self.refuses_starts.load(Ordering::Acquire)
    }
}
