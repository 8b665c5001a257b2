//! DescribeTaskQueue: who polls it, and how much waits in it.

use bristlecone_machine::reply;
use bristlecone_proto::node::{QueueDescription, QueueKey, TaskKind};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::{DescribeTaskQueueMode, TaskQueueKind, TaskQueueType};
use bristlecone_proto::temporal::api::taskqueue::v1::{
    TaskQueueStatus, TaskQueueTypeInfo, TaskQueueVersionInfo, TaskQueueVersioningInfo,
};
use bristlecone_proto::temporal::api::workflowservice::v1::describe_task_queue_response::EffectiveRateLimit;
use bristlecone_proto::temporal::api::workflowservice::v1::{DescribeTaskQueueRequest, DescribeTaskQueueResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, check};

pub async fn handle(edge: Edge, call: Call, request: DescribeTaskQueueRequest) -> Result<DescribeTaskQueueResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    let queue = check::task_queue(request.task_queue.as_ref(), &edge.cluster().settings().core)?;
    if request.api_mode() == DescribeTaskQueueMode::Enhanced {
        if queue.kind() == TaskQueueKind::Sticky {
            return Err(reply::invalid_argument(
                "Enhanced DescribeTaskQueue is not valid for a sticky queue, use api_mode=UNSPECIFIED or a normal queue.",
            ));
        }
        return by_version(&edge, &call, &namespace.record, &queue.name, &request).await;
    }
    let described = describe(&edge, &call, &namespace.record, &queue.name, request.task_queue_type()).await?;
    let stats = described.stats.unwrap_or_default();
    let kind = kind_of(request.task_queue_type());
    let key = QueueKey { namespace_id: namespace.record.id.clone(), name: queue.name.clone(), kind: kind.into() };
    let config = edge.cluster().meta().queue_config(&key).map(|config| (**config).clone());
    let effective = described.rate.map(|requests_per_second| EffectiveRateLimit {
        requests_per_second,
        rate_limit_source: described.rate_source,
    });
    let status = TaskQueueStatus { backlog_count_hint: stats.approximate_backlog_count, ..TaskQueueStatus::default() };
    Ok(DescribeTaskQueueResponse {
        pollers: described.pollers,
        stats: request.report_stats.then_some(stats),
        stats_by_priority_key: if request.report_stats { described.stats_by_priority } else { Default::default() },
        config: config.filter(|_| request.report_config),
        effective_rate_limit: effective.filter(|_| request.report_config),
        versioning_info: (queue.kind() != TaskQueueKind::Sticky).then(TaskQueueVersioningInfo::default),
        task_queue_status: request.include_task_queue_status.then_some(status),
        ..DescribeTaskQueueResponse::default()
    })
}

/// Every worker counts as unversioned.
async fn by_version(
    edge: &Edge,
    call: &Call,
    namespace: &record::Namespace,
    queue: &str,
    request: &DescribeTaskQueueRequest,
) -> Result<DescribeTaskQueueResponse> {
    let asked: Vec<TaskQueueType> = request.task_queue_types().collect();
    let types = if asked.is_empty() { vec![TaskQueueType::Workflow, TaskQueueType::Activity] } else { asked };
    let mut info = TaskQueueVersionInfo::default();
    for queue_type in types {
        let described = describe(edge, call, namespace, queue, queue_type).await?;
        let of_type = TaskQueueTypeInfo {
            pollers: if request.report_pollers { described.pollers } else { Vec::new() },
            stats: described.stats.filter(|_| request.report_stats),
        };
        info.types_info.insert(queue_type.into(), of_type);
    }
    let versions_info = [(String::new(), info)].into();
    Ok(DescribeTaskQueueResponse { versions_info, ..DescribeTaskQueueResponse::default() })
}

async fn describe(
    edge: &Edge,
    call: &Call,
    namespace: &record::Namespace,
    queue: &str,
    queue_type: TaskQueueType,
) -> Result<QueueDescription> {
    edge.cluster().describe_queue(&namespace.id, queue, kind_of(queue_type), call.answer_by()).await
}

pub(super) fn kind_of(queue_type: TaskQueueType) -> TaskKind {
    match queue_type {
        TaskQueueType::Unspecified | TaskQueueType::Workflow => TaskKind::Workflow,
        TaskQueueType::Activity => TaskKind::Activity,
        TaskQueueType::Nexus => TaskKind::Nexus,
    }
}
