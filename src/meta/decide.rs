//! What a change of the metadata comes to: pure, on the view that the change will be applied to.

use bristlecone_machine::reply;
use bristlecone_machine::stamp::timestamp;
use bristlecone_proto::chain::Rejection;
use bristlecone_proto::node::{AllocateNode, MetaReply, RenameNamespace, SetMemberState, UpdateQueueConfig, meta_call};
use bristlecone_proto::record;
use bristlecone_proto::record::member::State;
use bristlecone_proto::temporal::api::enums::v1::NamespaceState;
use bristlecone_proto::temporal::api::errordetails::v1::NamespaceAlreadyExistsFailure;
use bristlecone_proto::temporal::api::taskqueue::v1::{ConfigMetadata, RateLimitConfig, TaskQueueConfig};
use bristlecone_proto::temporal::api::workflowservice::v1::update_task_queue_config_request::RateLimitUpdate;
use bristlecone_storage::runtime::UnixNanos;
use bristlecone_storage::state::BatchBuilder;
use bristlecone_storage::state::keys::{Id, Key, META_SLOT};

use super::rules;
use super::view::MetaView;

/// Members that a cluster has at most, the removed ones not counted.
const MEMBERS_MAX: usize = 256;
/// Task queues with a configuration at most.
const QUEUE_CONFIGS_MAX: usize = 10_000;
/// Fairness keys of one queue whose weight is overridden (`matching.maxFairnessKeyWeightOverrides`).
pub const WEIGHT_OVERRIDES_MAX: usize = 1_000;
/// Namespaces at most.
const NAMESPACES_MAX: usize = 10_000;

/// The rows that the change writes, and the answer once they are applied. An empty batch changes nothing.
pub fn decide(view: &MetaView, call: meta_call::Kind, now: UnixNanos) -> Result<(BatchBuilder, MetaReply), Rejection> {
    let mut rows = BatchBuilder::new();
    let mut reply = MetaReply { cluster: Some(view.cluster.clone()), ..MetaReply::default() };
    match call {
        meta_call::Kind::PutNamespace(namespace) => reply.namespace = Some(put_namespace(view, &mut rows, namespace)?),
        meta_call::Kind::RenameNamespace(rename) => reply.namespace = Some(rename_namespace(view, &mut rows, rename)?),
        meta_call::Kind::RemoveNamespace(id) => remove_namespace(view, &mut rows, &id)?,
        meta_call::Kind::AllocateNode(request) => reply.member = Some(allocate_node(view, &mut rows, request, now)?),
        meta_call::Kind::SetMemberState(request) => reply.member = Some(set_member_state(view, &mut rows, request)?),
        meta_call::Kind::UpdateMember(member) => reply.member = Some(update_member(view, &mut rows, member)?),
        meta_call::Kind::UpdateQueueConfig(update) => {
            reply.queue_config = Some(update_queue_config(view, &mut rows, update, now)?);
        }
        meta_call::Kind::CreateRule(create) => {
            reply.namespace = Some(rules::create(view, &mut rows, create, now)?);
        }
        meta_call::Kind::DeleteRule(delete) => reply.namespace = Some(rules::delete(view, &mut rows, &delete)?),
        meta_call::Kind::PutShard(shard) => {
            if view.shard(shard.group_id).is_none_or(|known| **known != shard) {
                rows.put_row(META_SLOT, &Key::Shard { group: shard.group_id }, &shard);
            }
        }
    }
    Ok((rows, reply))
}

/// What is set for the queue after the change; nothing is kept of a queue for which nothing is set.
fn update_queue_config(
    view: &MetaView,
    rows: &mut BatchBuilder,
    update: UpdateQueueConfig,
    now: UnixNanos,
) -> Result<TaskQueueConfig, Rejection> {
    let queue = update.queue.unwrap_or_default();
    let request = update.request.unwrap_or_default();
    let known = view.queue_config(&queue);
    if known.is_none() && view.queue_configs().len() >= QUEUE_CONFIGS_MAX {
        let text = format!("the cluster has configurations of {QUEUE_CONFIGS_MAX} task queues, its limit");
        return Err(reply::plain(reply::code::RESOURCE_EXHAUSTED, text));
    }
    let mut config = known.map(|config| (**config).clone()).unwrap_or_default();
    let limit = |update: RateLimitUpdate| RateLimitConfig {
        rate_limit: update.rate_limit,
        metadata: Some(ConfigMetadata {
            reason: update.reason,
            update_identity: request.identity.clone(),
            update_time: Some(timestamp(now)),
        }),
    };
    if let Some(update) = request.update_queue_rate_limit {
        config.queue_rate_limit = Some(limit(update));
    }
    if let Some(update) = request.update_fairness_key_rate_limit_default {
        config.fairness_keys_rate_limit_default = Some(limit(update));
    }
    for key in &request.unset_fairness_weight_overrides {
        config.fairness_weight_overrides.remove(key);
    }
    config.fairness_weight_overrides.extend(request.set_fairness_weight_overrides);
    if config.fairness_weight_overrides.len() > WEIGHT_OVERRIDES_MAX {
        return Err(reply::invalid_argument("fairness weight overrides update rejected: exceeding maximum key size"));
    }
    let row = Key::QueueConfig {
        namespace: Id::new(&queue.namespace_id),
        kind: u8::try_from(queue.kind).unwrap_or_default(),
        queue: queue.name.as_str().into(),
    };
    if config == TaskQueueConfig::default() {
        rows.delete(&row.encode(META_SLOT));
    } else {
        rows.put_row(META_SLOT, &row, &config);
    }
    Ok(config)
}

/// The first rows of a cluster.
pub fn found(cluster: &record::Cluster, first: &record::Member, shards: &[record::Shard]) -> BatchBuilder {
    let mut rows = BatchBuilder::new();
    rows.put_row(META_SLOT, &Key::Cluster, cluster);
    rows.put_row(META_SLOT, &Key::Member { node: first.node_id }, first);
    for shard in shards {
        rows.put_row(META_SLOT, &Key::Shard { group: shard.group_id }, shard);
    }
    rows
}

/// Creates a namespace (version 0 in the record) or replaces it (the version that the change was made from).
fn put_namespace(
    view: &MetaView,
    rows: &mut BatchBuilder,
    namespace: record::Namespace,
) -> Result<record::Namespace, Rejection> {
    let known = view.namespace_by_id(&namespace.id);
    match known {
        None => {
            if view.namespace(&namespace.name).is_some() {
                return Err(reply::with_detail(
                    reply::code::ALREADY_EXISTS,
                    "Namespace already exists.",
                    &NamespaceAlreadyExistsFailure {},
                ));
            }
            if view.namespaces().count() >= NAMESPACES_MAX {
                return Err(reply::plain(
                    reply::code::RESOURCE_EXHAUSTED,
                    format!("the cluster has {NAMESPACES_MAX} namespaces, its limit"),
                ));
            }
            let id = namespace.id.clone().into_bytes();
            rows.put(&Key::NamespaceName { name: namespace.name.as_str().into() }.encode(META_SLOT), &id);
        }
        Some(known) if known.record.version != namespace.version => {
            return Err(reply::plain(reply::code::UNAVAILABLE, "the namespace was changed meanwhile, try again"));
        }
        Some(known) if known.record.name != namespace.name => {
            return Err(reply::invalid_argument("a namespace is not renamed this way"));
        }
        Some(_) => {}
    }
    Ok(put_next(rows, namespace))
}

/// The next version of a namespace.
pub(super) fn put_next(rows: &mut BatchBuilder, mut namespace: record::Namespace) -> record::Namespace {
    namespace.version += 1;
    rows.put_row(META_SLOT, &Key::Namespace { namespace: Id::new(&namespace.id) }, &namespace);
    namespace
}

fn rename_namespace(
    view: &MetaView,
    rows: &mut BatchBuilder,
    rename: RenameNamespace,
) -> Result<record::Namespace, Rejection> {
    let known = view.namespace_by_id(&rename.id).ok_or_else(|| reply::not_found("Namespace not found."))?;
    if view.namespace(&rename.new_name).is_some() {
        return Err(reply::plain(reply::code::ALREADY_EXISTS, "Namespace already exists."));
    }
    let mut namespace = known.record.clone();
    rows.delete(&Key::NamespaceName { name: namespace.name.as_str().into() }.encode(META_SLOT));
    namespace.name = rename.new_name;
    let id = namespace.id.clone().into_bytes();
    rows.put(&Key::NamespaceName { name: namespace.name.as_str().into() }.encode(META_SLOT), &id);
    Ok(put_next(rows, namespace))
}

/// Nothing is left of a deleted namespace: it is not known any more.
fn remove_namespace(view: &MetaView, rows: &mut BatchBuilder, id: &str) -> Result<(), Rejection> {
    let Some(known) = view.namespace_by_id(id) else { return Ok(()) };
    if known.record.state() != NamespaceState::Deleted {
        return Err(reply::failed_precondition("only a deleted namespace is removed"));
    }
    rows.delete(&Key::NamespaceName { name: known.record.name.as_str().into() }.encode(META_SLOT));
    rows.delete(&Key::Namespace { namespace: Id::new(id) }.encode(META_SLOT));
    Ok(())
}

fn allocate_node(
    view: &MetaView,
    rows: &mut BatchBuilder,
    request: AllocateNode,
    now: UnixNanos,
) -> Result<record::Member, Rejection> {
    if let Some(member) = view.node_for_request(&request.request_key).and_then(|node| view.member(node)) {
        return Ok((**member).clone());
    }
    let mut member = request.member.ok_or_else(|| reply::invalid_argument("a joining node must say who it is"))?;
    if let Some(taken) = view.present_members().find(|known| {
        known.internal_address == member.internal_address || (!member.name.is_empty() && known.name == member.name)
    }) {
        return Err(reply::plain(
            reply::code::ALREADY_EXISTS,
            format!(
                "node {} already has the name {} and the address {}; if it is lost for ever, remove it first: \
                 bristlecone cluster remove {}",
                taken.node_id, taken.name, taken.internal_address, taken.node_id
            ),
        ));
    }
    if view.present_members().count() >= MEMBERS_MAX {
        return Err(reply::plain(
            reply::code::RESOURCE_EXHAUSTED,
            format!("the cluster has {MEMBERS_MAX} members, its limit"),
        ));
    }
    let mut cluster = view.cluster.clone();
    member.node_id = cluster.next_node_id;
    if member.name.is_empty() {
        member.name = format!("n{}", member.node_id);
    }
    member.joined = Some(timestamp(now));
    member.set_state(State::Active);
    cluster.next_node_id += 1;
    rows.put_row(META_SLOT, &Key::Cluster, &cluster);
    rows.put_row(META_SLOT, &Key::Member { node: member.node_id }, &member);
    rows.put(
        &Key::NodeRequest { request: request.request_key.as_str().into() }.encode(META_SLOT),
        &member.node_id.to_be_bytes(),
    );
    Ok(member)
}

fn set_member_state(
    view: &MetaView,
    rows: &mut BatchBuilder,
    request: SetMemberState,
) -> Result<record::Member, Rejection> {
    let known = view
        .member(request.node_id)
        .ok_or_else(|| reply::not_found(format!("node {} is not a member of this cluster", request.node_id)))?;
    let wanted = request.state();
    if known.state() == State::Removed && wanted != State::Removed {
        return Err(reply::failed_precondition(format!(
            "node {} was removed; a removed node never comes back: join it anew with an empty data directory",
            request.node_id
        )));
    }
    let mut member = (**known).clone();
    if member.state() != wanted {
        member.set_state(wanted);
        rows.put_row(META_SLOT, &Key::Member { node: member.node_id }, &member);
    }
    Ok(member)
}

/// A member reports its addresses and version after a start.
fn update_member(
    view: &MetaView,
    rows: &mut BatchBuilder,
    report: record::Member,
) -> Result<record::Member, Rejection> {
    let known = view
        .member(report.node_id)
        .ok_or_else(|| reply::not_found(format!("node {} is not a member of this cluster", report.node_id)))?;
    let mut member = (**known).clone();
    member.api_address = report.api_address;
    member.internal_address = report.internal_address;
    member.version = report.version;
    member.locality = report.locality;
    if !report.name.is_empty() {
        member.name = report.name;
    }
    if member != **known {
        rows.put_row(META_SLOT, &Key::Member { node: member.node_id }, &member);
    }
    Ok(member)
}
