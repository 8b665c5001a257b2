//! How many calls of a namespace may wait at one time on this node, of each RPC that waits: polls, queries, updates,
//! long polls of histories and activities.
//!
//! # Contract
//! ```text
//! frontend.namespaceCount         on each node
//! frontend.globalNamespaceCount   in the whole cluster: each node has its share, and this goes before the other
//! ```
//! RPC by RPC and namespace by namespace, as in Temporal's server, service/frontend/configs/quotas.go. A call that finds
//! no place is refused at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Result, errors};

/// Name of the RPC and of the namespace.
type Kind = (&'static str, String);

/// The calls that wait on a node.
#[derive(Debug, Default)]
pub(super) struct Waits {
    counts: Arc<Mutex<HashMap<Kind, u64>>>,
}

/// The place of a call that waits; it is given up when this is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Place {
    kind: Kind,
    counts: Arc<Mutex<HashMap<Kind, u64>>>,
}

impl Waits {
    /// # Errors
    /// RESOURCE_EXHAUSTED: as many calls of this kind wait as may.
    pub fn take(&self, rpc: &'static str, namespace: &str, limit: Option<f64>) -> Result<Place> {
        let kind = (rpc, namespace.to_owned());
        let mut counts = self.counts.lock();
        let count = counts.get(&kind).map_or(1, |count| count + 1);
        if limit.is_some_and(|limit| count as f64 > limit) {
            return Err(errors::too_many_wait());
        }
        counts.insert(kind.clone(), count);
        Ok(Place { kind, counts: Arc::clone(&self.counts) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.counts.lock().entry(std::mem::take(&mut self.kind)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_once_its_call_ends() {
        let waits = Waits::default();
        let take = |rpc, namespace| waits.take(rpc, namespace, Some(2.0));
        let held = [take("QueryWorkflow", "a"), take("QueryWorkflow", "a")];
        assert_eq!(take("QueryWorkflow", "a").err(), Some(errors::too_many_wait()));
        assert!(take("QueryWorkflow", "b").is_ok() && take("PollWorkflowTaskQueue", "a").is_ok());
        assert!(waits.take("QueryWorkflow", "a", None).is_ok(), "without a limit");
        drop(held);
        assert!(waits.counts.lock().is_empty());
        assert!(take("QueryWorkflow", "a").is_ok());
    }

    #[test]
    fn a_share_below_one_lets_nobody_wait_and_leaves_nothing_behind() {
        let waits = Waits::default();
        assert!(waits.take("QueryWorkflow", "a", Some(0.5)).is_err());
        assert!(waits.counts.lock().is_empty());
    }
}
