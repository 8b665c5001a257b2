//! Listings and counts: every shard's leader looks at its own rows, the results are merged.
//!
//! # Contract
//! Each shard answers after a read barrier: a listing shows every acknowledged write. There is no
//! common moment over shards. A shard that gives no answer makes the listing UNAVAILABLE, never partial.

use std::sync::Arc;
use std::time::Duration;

use bristlecone_machine::reply;
use bristlecone_proto::node::{ListPage, ListShards, Request, list_page, request, response};
use bristlecone_storage::state::keys::Slot;
use bytes::Bytes;
use tokio::time::Instant;

use super::remains::remains;
use super::route::unavailable;
use super::{Cluster, Result};
use crate::filter::Filter;
use crate::shard::search;

/// How long a shard may be without a leader before a listing fails.
const LEADERLESS_MAX: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

impl Cluster {
    /// Executions that match, in the order of listings: open ones first, then the latest closed, then
    /// the latest started. `after` is the sort key of the last row of the page before.
    pub async fn list(
        &self,
        namespace_id: &str,
        filter: &Filter,
        page_size: u32,
        after: Bytes,
        deadline: Instant,
    ) -> Result<ListPage> {
        let pages = self.ask_shards(namespace_id, filter, page_size, after, false, deadline).await?;
        let mut rows: Vec<list_page::Row> = pages.into_iter().flat_map(|page| page.rows).collect();
        rows.sort_by(|a, b| a.sort_key.cmp(&b.sort_key));
        rows.truncate(usize::try_from(page_size).unwrap_or(usize::MAX));
        Ok(ListPage { rows, ..ListPage::default() })
    }

    /// How many executions match; with the filter's GROUP BY also by status name.
    pub async fn count(&self, namespace_id: &str, filter: &Filter, deadline: Instant) -> Result<ListPage> {
        let pages = self.ask_shards(namespace_id, filter, 0, Bytes::new(), true, deadline).await?;
        let mut total = ListPage::default();
        for page in pages {
            total.count += page.count;
            for (status, count) in page.groups {
                *total.groups.entry(status).or_default() += count;
            }
        }
        Ok(total)
    }

    async fn ask_shards(
        &self,
        namespace_id: &str,
        filter: &Filter,
        page_size: u32,
        after: Bytes,
        count_only: bool,
        deadline: Instant,
    ) -> Result<Vec<ListPage>> {
        let groups: Vec<u64> = self.meta().shards().map(|shard| shard.group_id).collect();
        let query = filter.to_string();
        let asks = groups.into_iter().map(|group_id| {
            let list = ListShards {
                namespace_id: namespace_id.to_string(),
                query: query.clone(),
                page_size,
                after: after.clone(),
                count_only,
                group_id,
                remains: false,
            };
            self.ask_shard_list(list, deadline)
        });
        futures::future::try_join_all(asks).await
    }

    pub(super) async fn ask_shard_list(&self, list: ListShards, deadline: Instant) -> Result<ListPage> {
        match self.ask_leader(list.group_id, &request::Kind::List(list), deadline).await? {
            response::Kind::List(page) => Ok(page),
            _ => Err(unavailable("a shard answered something else than a listing")),
        }
    }

    /// What the leader of a shard says to a question about its rows.
    pub(super) async fn ask_leader(
        &self,
        group_id: u64,
        question: &request::Kind,
        deadline: Instant,
    ) -> Result<response::Kind> {
        let give_up = deadline.min(Instant::now() + LEADERLESS_MAX);
        loop {
            let view = self.meta();
            let leader = view.shard(group_id).and_then(|shard| self.leader_of(shard));
            let answer = match leader {
                Some(node) if node == self.inner.me => Some(self.serve_rows(question.clone(), deadline).await),
                Some(node) => {
                    let request = Request { timeout_ms: 0, kind: Some(question.clone()) };
                    let left = deadline.saturating_duration_since(Instant::now());
                    self.inner.peers.call(node, request, left).await.ok().and_then(|response| response.kind)
                }
                None => None,
            };
            match answer {
                Some(response::Kind::Failed(rejection)) => return Err(rejection),
                Some(response::Kind::NotLeader(_)) | None => {}
                Some(answer) => return Ok(answer),
            }
            if Instant::now() + PAUSE >= give_up {
                return Err(unavailable("a shard gave no answer: the listing would be incomplete"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The answer of this node, which should lead the shard.
    pub(super) async fn serve_rows(&self, question: request::Kind, deadline: Instant) -> response::Kind {
        match question {
            request::Kind::List(list) => self.serve_list(list).await,
            request::Kind::CheckListings(check) => self.serve_check(check, deadline).await,
            _ => response::Kind::Failed(reply::invalid_argument("not a question about rows")),
        }
    }

    async fn serve_list(&self, list: ListShards) -> response::Kind {
        let not_leader = response::Kind::NotLeader(Default::default());
        let Some(shard) = self.inner.shards.get(list.group_id) else { return not_leader };
        if shard.group.read_barrier().await.is_err() {
            return not_leader;
        }
        let Some(extent) = shard.group.extent() else { return not_leader };
        let store = Arc::clone(&self.inner.store);
        let slots = Slot::try_from(extent.first_slot).unwrap_or(0)..Slot::try_from(extent.end_slot).unwrap_or(0);
        if list.remains {
            let scanned = self.inner.tasks.blocking(move || remains(&*store, slots, &list)).await;
            return match scanned {
                Ok(page) => response::Kind::List(page),
                Err(error) => response::Kind::Failed(unavailable(&error.to_string())),
            };
        }
        let Ok(filter) = Filter::from_text(&list.query) else {
            return response::Kind::Failed(reply::invalid_argument("invalid query"));
        };
        let scanned = self.inner.tasks.blocking(move || search(&*store, slots, &filter, &list)).await;
        match scanned {
            Ok(page) => response::Kind::List(page),
            Err(error) => response::Kind::Failed(unavailable(&error.to_string())),
        }
    }
}
