//! The table of RPCs: which of the API's methods this server has, and the handler of each.

use std::collections::BTreeSet;
use std::future::Future;
use std::task::{Context, Poll};

use bristlecone_proto::API_DESCRIPTORS;
use futures::FutureExt;
use futures::future::BoxFuture;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::server::Grpc;
use tonic_prost::ProstCodec;

use super::call::Call;
use super::observe::REQUEST_BYTES_MAX;
use super::{Edge, Result, off, operator_service, status, workflow_service};

/// Whether this server has an RPC of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RpcStatus {
    Served,
    /// Answered, but not with all of what the API offers: what is missing.
    Partly(&'static str),
    /// Answered as where its feature is switched off.
    Off,
    /// Answered with UNIMPLEMENTED.
    Unimplemented,
}

/// Every RPC of the API's two services, `Service.Method`, in the order in which the API defines them.
pub fn rpc_table() -> Vec<(String, RpcStatus)> {
    let mut table = Vec::new();
    for (service, method) in methods() {
        let name = format!("{}.{method}", service.rsplit('.').next().unwrap_or_default());
        let rpc = RPCS.iter().find(|rpc| rpc.service == service && rpc.name == method);
        let status = match rpc {
            Some(rpc) => rpc.status,
            None if off::refusal(&method).is_some() => RpcStatus::Off,
            None => RpcStatus::Unimplemented,
        };
        table.push((name, status));
    }
    table
}

/// An RPC that is served.
pub(super) struct Rpc {
    /// Full name of the service.
    pub service: &'static str,
    pub name: &'static str,
    pub status: RpcStatus,
    pub serve: fn(Edge, Call, http::Request<Body>) -> BoxFuture<'static, http::Response<Body>>,
}

/// Full name of the service and name of the method, of every RPC of the API.
pub(super) fn methods() -> Vec<(String, String)> {
    let set = FileDescriptorSet::decode(API_DESCRIPTORS).expect("the descriptors are generated with this program");
    let wanted: BTreeSet<&str> = [WORKFLOW_SERVICE, OPERATOR_SERVICE].into();
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let full_name = format!("{}.{}", file.package(), service.name());
            if wanted.contains(full_name.as_str()) {
                methods.extend(service.method.iter().map(|method| (full_name.clone(), method.name().to_owned())));
            }
        }
    }
    methods
}

const WORKFLOW_SERVICE: &str = "temporal.api.workflowservice.v1.WorkflowService";
const OPERATOR_SERVICE: &str = "temporal.api.operatorservice.v1.OperatorService";

macro_rules! rpcs {
    ($($service:ident in $handlers:ident { $($name:ident: $handler:ident $(($missing:literal))?,)* })*) => {
        &[$($(Rpc {
            service: $service,
            name: stringify!($name),
            status: rpcs!(@status $($missing)?),
            serve: |edge, call, request| {
                Box::pin(serve(request, move |message| $handlers::$handler::handle(edge, call, message)))
            },
        },)*)*]
    };
    (@status) => { RpcStatus::Served };
    (@status $missing:literal) => { RpcStatus::Partly($missing) };
}

/// Every RPC that is served. A handler is an async function `handle(Edge, Call, Request) -> Result<Response>`.
pub(super) static RPCS: &[Rpc] = rpcs! {
    WORKFLOW_SERVICE in workflow_service {
        GetSystemInfo: get_system_info,
        GetClusterInfo: get_cluster_info,
        GetSearchAttributes: get_search_attributes,
        RegisterNamespace: register_namespace ("local namespaces only, no archival"),
        DescribeNamespace: describe_namespace,
        ListNamespaces: list_namespaces,
        UpdateNamespace: update_namespace ("local namespaces only, no archival"),
        DeprecateNamespace: deprecate_namespace,
        StartWorkflowExecution: start_workflow_execution,
        SignalWorkflowExecution: signal_workflow_execution,
        SignalWithStartWorkflowExecution: signal_with_start_workflow_execution,
        RequestCancelWorkflowExecution: request_cancel_workflow_execution,
        TerminateWorkflowExecution: terminate_workflow_execution,
        DeleteWorkflowExecution: delete_workflow_execution,
        DescribeWorkflowExecution: describe_workflow_execution,
        GetWorkflowExecutionHistory: get_workflow_execution_history,
        GetWorkflowExecutionHistoryReverse: get_workflow_execution_history_reverse,
        PollWorkflowTaskQueue: poll_workflow_task_queue,
        RespondWorkflowTaskCompleted: respond_workflow_task_completed ("no Nexus operations"),
        RespondWorkflowTaskFailed: respond_workflow_task_failed,
        PollActivityTaskQueue: poll_activity_task_queue,
        RecordActivityTaskHeartbeat: record_activity_task_heartbeat,
        RecordActivityTaskHeartbeatById: record_activity_task_heartbeat_by_id,
        RespondActivityTaskCompleted: respond_activity_task_completed,
        RespondActivityTaskCompletedById: respond_activity_task_completed_by_id,
        RespondActivityTaskFailed: respond_activity_task_failed,
        RespondActivityTaskFailedById: respond_activity_task_failed_by_id,
        RespondActivityTaskCanceled: respond_activity_task_canceled,
        RespondActivityTaskCanceledById: respond_activity_task_canceled_by_id,
        PauseActivity: pause_activity,
        UnpauseActivity: unpause_activity,
        ResetActivity: reset_activity,
        UpdateActivityOptions: update_activity_options,
        CreateWorkflowRule: create_workflow_rule,
        DescribeWorkflowRule: describe_workflow_rule,
        DeleteWorkflowRule: delete_workflow_rule,
        ListWorkflowRules: list_workflow_rules,
        PauseWorkflowExecution: pause_workflow_execution,
        UnpauseWorkflowExecution: unpause_workflow_execution,
        UpdateWorkflowExecutionOptions: update_workflow_execution_options,
        StartActivityExecution: start_activity_execution ("no completion callbacks"),
        DescribeActivityExecution: describe_activity_execution,
        PollActivityExecution: poll_activity_execution,
        ListActivityExecutions: list_activity_executions,
        CountActivityExecutions: count_activity_executions,
        RequestCancelActivityExecution: request_cancel_activity_execution,
        TerminateActivityExecution: terminate_activity_execution,
        DeleteActivityExecution: delete_activity_execution,
        PauseActivityExecution: pause_activity_execution,
        UnpauseActivityExecution: unpause_activity_execution,
        ResetActivityExecution: reset_activity_execution,
        UpdateActivityExecutionOptions: update_activity_execution_options,
        UpdateWorkflowExecution: update_workflow_execution,
        PollWorkflowExecutionUpdate: poll_workflow_execution_update,
        ExecuteMultiOperation: execute_multi_operation,
        ResetWorkflowExecution: reset_workflow_execution,
        QueryWorkflow: query_workflow,
        RespondQueryTaskCompleted: respond_query_task_completed,
        ResetStickyTaskQueue: reset_sticky_task_queue,
        PollNexusTaskQueue: poll_nexus_task_queue ("waits and answers empty: there are no Nexus tasks"),
        ShutdownWorker: shutdown_worker,
        RecordWorkerHeartbeat: record_worker_heartbeat,
        ListWorkers: list_workers,
        CountWorkers: count_workers,
        DescribeWorker: describe_worker,
        ListWorkflowExecutions: list_workflow_executions,
        ScanWorkflowExecutions: scan_workflow_executions,
        ListOpenWorkflowExecutions: list_open_workflow_executions,
        ListClosedWorkflowExecutions: list_closed_workflow_executions,
        CountWorkflowExecutions: count_workflow_executions,
        StartBatchOperation: start_batch_operation,
        StopBatchOperation: stop_batch_operation,
        DescribeBatchOperation: describe_batch_operation,
        ListBatchOperations: list_batch_operations,
        DescribeTaskQueue: describe_task_queue ("no versions"),
        UpdateTaskQueueConfig: update_task_queue_config,
        ListTaskQueuePartitions: list_task_queue_partitions,
        CreateSchedule: create_schedule,
        DescribeSchedule: describe_schedule,
        UpdateSchedule: update_schedule,
        PatchSchedule: patch_schedule,
        ListScheduleMatchingTimes: list_schedule_matching_times,
        DeleteSchedule: delete_schedule,
        ListSchedules: list_schedules,
        CountSchedules: count_schedules,
    }
    OPERATOR_SERVICE in operator_service {
        AddSearchAttributes: add_search_attributes,
        RemoveSearchAttributes: remove_search_attributes,
        ListSearchAttributes: list_search_attributes,
        DeleteNamespace: delete_namespace,
        ListClusters: list_clusters,
    }
};

/// One unary call, from its encoded request to its encoded response.
pub(super) async fn serve<Q, A, F, W>(request: http::Request<Body>, handle: F) -> http::Response<Body>
where
    Q: Message + Default + Send + 'static,
    A: Message + Send + 'static,
    F: FnOnce(Q) -> W + Send + 'static,
    W: Future<Output = Result<A>> + Send + 'static,
{
    // Responses go out as they are: most are small, and compressing large ones costs more than it saves.
    let mut grpc = Grpc::new(ProstCodec::<A, Q>::default())
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(usize::MAX);
    grpc.unary(Handler(Some(handle)), request).await
}

/// A handler as tonic calls it: once.
struct Handler<F>(Option<F>);

impl<Q, A, F, W> tower::Service<tonic::Request<Q>> for Handler<F>
where
    F: FnOnce(Q) -> W,
    W: Future<Output = Result<A>> + Send + 'static,
    A: Send + 'static,
{
    type Response = tonic::Response<A>;
    type Error = Status;
    type Future = BoxFuture<'static, std::result::Result<tonic::Response<A>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        match self.0.take() {
            Some(handle) => handle(request.into_inner()).map(to_tonic).boxed(),
            None => std::future::ready(Err(Status::internal("a call has one request"))).boxed(),
        }
    }
}

fn to_tonic<A>(answer: Result<A>) -> std::result::Result<tonic::Response<A>, Status> {
    answer.map(tonic::Response::new).map_err(status::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the API has and this server does not. A name leaves this list when its handler comes.
    const UNIMPLEMENTED: &str = include_str!("unimplemented.txt");

    fn unimplemented() -> Vec<String> {
        let table = rpc_table().into_iter();
        table.filter(|(_, status)| *status == RpcStatus::Unimplemented).map(|(name, _)| name).collect()
    }

    #[test]
    fn what_is_missing_is_known() {
        let expected: Vec<&str> = UNIMPLEMENTED.lines().collect();
        assert_eq!(unimplemented(), expected, "src/grpc/unimplemented.txt");
    }

    #[test]
    fn every_served_rpc_is_one_of_the_api() {
        let known: BTreeSet<(String, String)> = methods().into_iter().collect();
        let served: BTreeSet<(String, String)> =
            RPCS.iter().map(|rpc| (rpc.service.to_owned(), rpc.name.to_owned())).collect();
        assert_eq!(served.len(), RPCS.len(), "an RPC stands in the table twice");
        assert_eq!(served.difference(&known).collect::<Vec<_>>(), Vec::<&(String, String)>::new());
    }

    /// The README says which RPCs are served, between two markers. BRISTLECONE_REWRITE=1 rewrites that part.
    #[test]
    fn the_readme_tells_the_truth() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let Ok(readme) = std::fs::read_to_string(path) else { return };
        let expected = with_table(&readme);
        if std::env::var_os("BRISTLECONE_REWRITE").is_some() {
            std::fs::write(path, expected).expect("README.md can be written");
        } else {
            assert!(readme == expected, "README.md: its table of RPCs is out of date; set BRISTLECONE_REWRITE=1");
        }
    }

    fn with_table(readme: &str) -> String {
        const BEGIN: &str = "<!-- rpc-table -->";
        const END: &str = "<!-- /rpc-table -->";
        let section = format!("{BEGIN}\n{}\n{END}", table());
        match (readme.find(BEGIN), readme.find(END)) {
            (Some(begin), Some(end)) if begin < end => {
                let (before, after) = (&readme[..begin], &readme[end + END.len()..]);
                format!("{before}{section}{after}")
            }
            _ => format!("{}\n\n## RPCs\n\n{section}\n", readme.trim_end()),
        }
    }

    fn table() -> String {
        let table = rpc_table();
        let count = |wanted: fn(&RpcStatus) -> bool| table.iter().filter(|(_, status)| wanted(status)).count();
        let missing = count(|status| *status == RpcStatus::Unimplemented);
        let off = count(|status| *status == RpcStatus::Off);
        let mut text = format!(
            "{} of the API's {} RPCs are served. {off} more are answered as where their features are switched off \
             (deprecated versioning, archives, remote clusters, triggers of workflow rules); the others answer \
             `UNIMPLEMENTED`.\n\n| RPC | |\n| --- | --- |\n",
            table.len() - missing - off,
            table.len()
        );
        for (name, status) in &table {
            let status = match status {
                RpcStatus::Served => "yes".to_owned(),
                RpcStatus::Partly(missing) => format!("partly: {missing}"),
                RpcStatus::Off => "off".to_owned(),
                RpcStatus::Unimplemented => "–".to_owned(),
            };
            text.push_str(&format!("| {name} | {status} |\n"));
        }
        text.trim_end().to_owned()
    }

    #[test]
    fn the_table_finds_its_place() {
        let fresh = with_table("# Title\n\nText.\n");
        assert!(fresh.starts_with("# Title\n\nText.\n\n## RPCs\n\n<!-- rpc-table -->\n"), "{fresh}");
        assert_eq!(with_table(&fresh), fresh);
        let outdated = fresh.replace("| WorkflowService.RegisterNamespace", "| WorkflowService.Gone");
        assert_eq!(with_table(&format!("{outdated}\nAfter.")), format!("{fresh}\nAfter."));
    }
}
