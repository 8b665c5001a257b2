//! Whether the rows behind listings are right, slot by slot; and making them so.
//!
//! # Contract
//! The leader of a slot's shard looks, after a read barrier. A rebuild writes through the shard's actor and looks again,
//! until nothing is left that it can mend. Runs that change meanwhile are seen as they were at one moment.

use std::sync::Arc;

use bristlecone_proto::node::{CheckListings, ListingCheck, request, response};
use bristlecone_storage::state::keys::{SLOTS, Slot};
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::route::unavailable;
use super::{Cluster, Result};
use crate::shard::{Listing, MENDED_AT_ONCE, Mend, Shard, audit};

/// Slots that are looked at at a time.
const AT_ONCE: usize = 6;
/// How often a rebuild of one slot looks again: each time a thousand runs or more are mended.
const ROUNDS_MAX: usize = 10_000;

impl Cluster {
    /// Looks at slots from `first` on until `by`, but at a few in any case; says where to go on. `namespace_id` is empty
    /// for all.
    pub async fn check_listings(
        &self,
        namespace_id: &str,
        first: Slot,
        rebuild: bool,
        by: Instant,
        deadline: Instant,
    ) -> Result<(Vec<ListingCheck>, Slot)> {
        let mut all = Vec::new();
        let mut next = first;
        while next < SLOTS {
            let end = next.saturating_add(AT_ONCE as Slot).min(SLOTS);
            let asks = (next..end).map(|slot| self.check_slot(namespace_id, slot, rebuild, deadline));
            let checks: Vec<ListingCheck> = stream::iter(asks).buffered(AT_ONCE).try_collect().await?;
            all.extend(checks);
            next = end;
            if Instant::now() >= by {
                break;
            }
        }
        Ok((all, next))
    }

    async fn check_slot(
        &self,
        namespace_id: &str,
        slot: Slot,
        rebuild: bool,
        deadline: Instant,
    ) -> Result<ListingCheck> {
        let owner = self.meta().shard_of(slot).map(|shard| shard.group_id);
        let group_id = owner.ok_or_else(|| unavailable("no shard has the slot"))?;
        let namespace_id = namespace_id.to_owned();
        let check = CheckListings { group_id, slot: slot.into(), namespace_id, rebuild };
        match self.ask_leader(group_id, &request::Kind::CheckListings(check), deadline).await? {
            response::Kind::ListingCheck(check) => Ok(check),
            _ => Err(unavailable("a shard answered something else than a check")),
        }
    }

    pub(super) async fn serve_check(&self, check: CheckListings, deadline: Instant) -> response::Kind {
        let Some(shard) = self.inner.shards.get(check.group_id) else {
            return response::Kind::NotLeader(Default::default());
        };
        let Ok(slot) = Slot::try_from(check.slot) else {
            return response::Kind::Failed(unavailable("no shard has the slot"));
        };
        let mut answer = ListingCheck::default();
        for round in 0..ROUNDS_MAX {
            if shard.group.read_barrier().await.is_err() {
                return response::Kind::NotLeader(Default::default());
            }
            let (store, only) = (Arc::clone(&self.inner.store), check.namespace_id.clone());
            let namespaces: Vec<String> = self.meta().namespaces().map(|entry| entry.record.id.clone()).collect();
            let looked = move || audit(&*store.view(), slot, &namespaces, &only);
            let audit = match self.inner.tasks.blocking(looked).await {
                Ok(audit) => audit,
                Err(error) => return response::Kind::Failed(unavailable(&error.to_string())),
            };
            if round == 0 {
                answer.found = Some(audit.faults);
            }
            let no_better = round > 0 && answer.left == Some(audit.faults);
            answer.left = Some(audit.faults);
            let nothing_to_mend = audit.named.is_empty() && audit.faults.miscounted == 0;
            if !check.rebuild || nothing_to_mend || no_better || Instant::now() >= deadline {
                break;
            }
            if let Err(kind) = self.mend(&shard, slot, &check.namespace_id, audit.named, deadline).await {
                return kind;
            }
        }
        response::Kind::ListingCheck(answer)
    }

    async fn mend(
        &self,
        shard: &Shard,
        slot: Slot,
        only: &str,
        mut named: Vec<Listing>,
        deadline: Instant,
    ) -> std::result::Result<(), response::Kind> {
        let mut mends = Vec::new();
        while !named.is_empty() {
            let rest = named.split_off(named.len().min(MENDED_AT_ONCE));
            mends.push(Mend::Listings(std::mem::replace(&mut named, rest)));
        }
        let ids: Vec<String> = self.meta().namespaces().map(|entry| entry.record.id.clone()).collect();
        let counted = ids.into_iter().filter(|id| only.is_empty() || id == only);
        mends.extend(counted.map(|namespace_id| Mend::Counts { namespace_id }));
        for mend in mends {
            // A leader that is none any more is asked anew by the caller.
            shard.mend(slot, mend, deadline).await.map_err(|_| response::Kind::NotLeader(Default::default()))?;
        }
        Ok(())
    }
}
