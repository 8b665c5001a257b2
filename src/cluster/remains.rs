//! What is stored of a namespace at all: for its deletion.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bristlecone_proto::node::{ListPage, ListShards, list_page};
use bristlecone_proto::record::Visibility;
use bristlecone_storage::state::keys::{self, Key, Slot};
use bristlecone_storage::state::{Direction, Error, StateStore};
use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

use super::{Cluster, Result};

impl Cluster {
    /// What is stored of a namespace: runs, then chains without runs, at most so many of each shard; and how many
    /// rows chains have.
    pub async fn remains(&self, namespace_id: &str, most: u32, deadline: Instant) -> Result<ListPage> {
        let groups: Vec<u64> = self.meta().shards().map(|shard| shard.group_id).collect();
        let asks = groups.into_iter().map(|group_id| {
            let namespace_id = namespace_id.to_string();
            let list = ListShards { namespace_id, page_size: most, remains: true, group_id, ..ListShards::default() };
            self.ask_shard_list(list, deadline)
        });
        let mut all = ListPage::default();
        for page in futures::future::try_join_all(asks).await? {
            all.rows.extend(page.rows);
            all.count += page.count;
        }
        Ok(all)
    }
}

/// What the slots hold of a namespace.
pub(super) fn remains(
    store: &dyn StateStore,
    slots: std::ops::Range<Slot>,
    list: &ListShards,
) -> std::result::Result<ListPage, Error> {
    let mut page = ListPage::default();
    let most = usize::try_from(list.page_size).unwrap_or(usize::MAX);
    let mut chains = BTreeSet::new();
    for slot in slots {
        store.scan(&keys::visibility(slot, &list.namespace_id), Direction::Forward, &mut |_, value| {
            if page.rows.len() < most {
                let visibility = Visibility::decode(value).ok();
                page.rows.push(list_page::Row { sort_key: Bytes::new(), visibility });
                return ControlFlow::Continue(());
            }
            ControlFlow::Break(())
        })?;
        let mut counters = false;
        store.scan(&keys::run_counts(slot, &list.namespace_id), Direction::Forward, &mut |_, _| {
            counters = true;
            ControlFlow::Break(())
        })?;
        if counters && chains.len() < most {
            // Whatever chain is razed there takes them with it.
            page.count += 1;
            chains.insert(some_workflow_of(slot, &list.namespace_id));
        }
        let stored =
            [keys::chains_of_namespace(slot, &list.namespace_id), keys::outbox_of_namespace(slot, &list.namespace_id)];
        for range in stored {
            store.scan(&range, Direction::Forward, &mut |key, _| {
                page.count += 1;
                if let Ok((_, Key::Chain { workflow, .. } | Key::Outbox { workflow, .. })) = Key::parse(key)
                    && chains.len() < most
                {
                    chains.insert(workflow.to_string());
                }
                ControlFlow::Continue(())
            })?;
        }
    }
    if page.rows.is_empty() {
        page.rows.extend(chains.into_iter().map(|workflow_id| list_page::Row {
            sort_key: Bytes::new(),
            visibility: Some(Visibility { workflow_id, ..Visibility::default() }),
        }));
    }
    Ok(page)
}

/// A workflow id with this slot.
fn some_workflow_of(slot: Slot, namespace_id: &str) -> String {
    let mut ids = (0_u64..).map(|number| number.to_string());
    ids.find(|id| keys::slot_of(namespace_id, id) == slot).unwrap_or_default()
}
