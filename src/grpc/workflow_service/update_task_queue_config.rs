//! UpdateTaskQueueConfig: rate limits and fairness weights of a queue, for the whole cluster.

use bristlecone_machine::reply;
use bristlecone_proto::node::{QueueKey, UpdateQueueConfig, meta_call};
use bristlecone_proto::temporal::api::enums::v1::TaskQueueType;
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;
use bristlecone_proto::temporal::api::workflowservice::v1::update_task_queue_config_request::RateLimitUpdate;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    UpdateTaskQueueConfigRequest, UpdateTaskQueueConfigResponse,
};

use super::describe_task_queue::kind_of;
use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, check};
use crate::meta::WEIGHT_OVERRIDES_MAX;

/// Bytes of the reason for a limit.
const REASON_MAX: usize = 1_000;
/// Bytes of a fairness key.
const KEY_MAX: usize = 64;

pub async fn handle(
    edge: Edge,
    call: Call,
    request: UpdateTaskQueueConfigRequest,
) -> Result<UpdateTaskQueueConfigResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    let settings = edge.cluster().settings();
    let limits = &settings.core;
    checked(&request, limits.id_bytes_max)?;
    let name = TaskQueue { name: request.task_queue.clone(), ..TaskQueue::default() };
    let queue = QueueKey {
        namespace_id: namespace.record.id.clone(),
        name: check::task_queue(Some(&name), limits)?.name,
        kind: kind_of(request.task_queue_type()).into(),
    };
    let update = UpdateQueueConfig { queue: Some(queue), request: Some(request) };
    let reply = edge.cluster().meta_call(meta_call::Kind::UpdateQueueConfig(update), call.answer_by()).await?;
    Ok(UpdateTaskQueueConfigResponse { config: reply.queue_config })
}

fn checked(request: &UpdateTaskQueueConfigRequest, id_bytes_max: usize) -> Result<()> {
    let invalid = |text: String| Err(reply::invalid_argument(text));
    let of_workflows = request.task_queue_type() == TaskQueueType::Workflow;
    let queue = request.update_queue_rate_limit.as_ref();
    let fairness = request.update_fairness_key_rate_limit_default.as_ref();
    if of_workflows && queue.is_some_and(|update| update.rate_limit.is_some()) {
        return invalid("Setting rate limit on workflow task queues is not allowed.".into());
    }
    rate_limit(queue, "UpdateQueueRateLimit")?;
    if of_workflows && fairness.is_some_and(|update| update.rate_limit.is_some()) {
        return invalid("Setting fairness key rate limit on workflow task queues is not allowed.".into());
    }
    rate_limit(fairness, "UpdateFairnessKeyRateLimitDefault")?;
    if request.identity.len() > id_bytes_max {
        return invalid(format!("Identity field too long (max {id_bytes_max} characters)."));
    }
    let (set, unset) = (&request.set_fairness_weight_overrides, &request.unset_fairness_weight_overrides);
    let total = set.len() + unset.len();
    if total > WEIGHT_OVERRIDES_MAX {
        return invalid(format!(
            "too many fairness weight overrides in request: got {total}, maximum {WEIGHT_OVERRIDES_MAX}"
        ));
    }
    for (key, weight) in set {
        fairness_key(key)?;
        if *weight <= 0.0 {
            return invalid(format!("invalid fairness weight weight for key {key:?}: must be greater than zero"));
        }
    }
    for key in unset {
        fairness_key(key)?;
    }
    match unset.iter().find(|key| set.contains_key(*key)) {
        Some(key) => invalid(format!("fairness weight override key {key:?} present in both set and unset lists")),
        None => Ok(()),
    }
}

fn rate_limit(update: Option<&RateLimitUpdate>, label: &str) -> Result<()> {
    let Some((update, limit)) = update.and_then(|update| Some((update, update.rate_limit.as_ref()?))) else {
        return Ok(());
    };
    if limit.requests_per_second < 0.0 {
        let text = format!("RequestsPerSecond for {label} rate limit must be non-negative.");
        return Err(reply::invalid_argument(text));
    }
    if update.reason.len() > REASON_MAX {
        let text = format!("{label}.Reason field too long (max {REASON_MAX} characters).");
        return Err(reply::invalid_argument(text));
    }
    Ok(())
}

fn fairness_key(key: &str) -> Result<()> {
    match key.len() {
        0 => Err(reply::invalid_argument("fairness weight override key must not be empty")),
        1..=KEY_MAX => Ok(()),
        _ => Err(reply::invalid_argument("fairness key length exceeds limit")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bristlecone_proto::temporal::api::taskqueue::v1::RateLimit;

    fn limit(requests_per_second: f32) -> Option<RateLimitUpdate> {
        Some(RateLimitUpdate { rate_limit: Some(RateLimit { requests_per_second }), reason: "r".into() })
    }

    #[test]
    fn what_is_wrong_is_named() {
        let activity = || UpdateTaskQueueConfigRequest {
            task_queue_type: TaskQueueType::Activity.into(),
            ..UpdateTaskQueueConfigRequest::default()
        };
        let text = |request: UpdateTaskQueueConfigRequest| checked(&request, 1_000).map_err(|error| error.message);
        let set = |key: &str, weight| [(key.to_owned(), weight)].into();
        assert_eq!(text(UpdateTaskQueueConfigRequest { update_queue_rate_limit: limit(0.0), ..activity() }), Ok(()));
        assert_eq!(
            text(UpdateTaskQueueConfigRequest { update_queue_rate_limit: limit(-1.0), ..activity() }),
            Err("RequestsPerSecond for UpdateQueueRateLimit rate limit must be non-negative.".into())
        );
        let workflow = UpdateTaskQueueConfigRequest { task_queue_type: TaskQueueType::Workflow.into(), ..activity() };
        assert_eq!(
            text(UpdateTaskQueueConfigRequest { update_queue_rate_limit: limit(1.0), ..workflow }),
            Err("Setting rate limit on workflow task queues is not allowed.".into())
        );
        let both = UpdateTaskQueueConfigRequest {
            set_fairness_weight_overrides: set("k", 2.0),
            unset_fairness_weight_overrides: vec!["k".into()],
            ..activity()
        };
        assert_eq!(text(both), Err("fairness weight override key \"k\" present in both set and unset lists".into()));
        let nothing = UpdateTaskQueueConfigRequest { set_fairness_weight_overrides: set("k", 0.0), ..activity() };
        assert_eq!(
            text(nothing),
            Err("invalid fairness weight weight for key \"k\": must be greater than zero".into())
        );
    }
}
