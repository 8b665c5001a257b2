//! `CheckVisibility`: whether listings show what there is, as far as the time suffices; and making them so.

use std::time::Duration;

use bristlecone_machine::reply;
use bristlecone_proto::admin::{CheckVisibilityRequest, CheckVisibilityResponse};
use bristlecone_storage::state::keys::{SLOTS, Slot};
use tokio::time::Instant;

use super::super::Result;
use super::Admin;

/// How long one call goes on: often enough for a bar that moves.
const GO_ON: Duration = Duration::from_secs(1);

pub(super) async fn check_visibility(
    admin: &Admin,
    request: CheckVisibilityRequest,
    by: Instant,
) -> Result<CheckVisibilityResponse> {
    let CheckVisibilityRequest { namespace, slot, rebuild } = request;
    let first = Slot::try_from(slot).ok().filter(|slot| *slot < SLOTS);
    let first = first.ok_or_else(|| reply::invalid_argument(format!("there are {SLOTS} slots, from 0 on")))?;
    let namespace_id = if namespace.is_empty() {
        String::new()
    } else {
        let view = admin.cluster.meta();
        let known = view.namespace(&namespace);
        known.ok_or_else(|| reply::not_found(format!("there is no namespace {namespace}")))?.record.id.clone()
    };
    let (slots, next) =
        admin.cluster.check_listings(&namespace_id, first, rebuild, by.min(Instant::now() + GO_ON), by).await?;
    Ok(CheckVisibilityResponse { slots, next_slot: next.into() })
}
