//! The API without an SDK: single calls whose request ids are known, and histories byte by byte.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use bristlecone_proto::temporal::api::common::v1::{Payload, Payloads, WorkflowExecution, WorkflowType};
use bristlecone_proto::temporal::api::enums::v1::HistoryEventFilterType;
use bristlecone_proto::temporal::api::history::v1::{HistoryEvent, history_event::Attributes};
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;
use bristlecone_proto::temporal::api::workflow::v1::WorkflowExecutionInfo;
use bristlecone_proto::temporal::api::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    CountWorkflowExecutionsRequest, DescribeNamespaceRequest, DescribeWorkflowExecutionRequest,
    GetWorkflowExecutionHistoryRequest, ListWorkflowExecutionsRequest, SignalWorkflowExecutionRequest,
    StartWorkflowExecutionRequest,
};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

pub const NAMESPACE: &str = "default";
const CONNECT_TIME: Duration = Duration::from_millis(500);
/// Pause before the next node is tried.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Any of the cluster's nodes: a call goes to one, and on to the next when that one does not answer.
#[derive(Debug, Clone)]
pub struct Api {
    nodes: Vec<Channel>,
    /// How long one node may take to answer.
    attempt_time: Duration,
    /// How long a call may take with all its attempts.
    call_time: Duration,
}

impl Api {
    /// Connects when the first call is made; the nodes are tried in this order.
    pub fn new(addresses: &[String]) -> Self {
        let connect = |address: &String| {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("host and port");
            endpoint.connect_timeout(CONNECT_TIME).connect_lazy()
        };
        let nodes = addresses.iter().map(connect).collect();
        Self { nodes, attempt_time: Duration::from_secs(5), call_time: Duration::from_secs(60) }
    }

    /// One node, and no second attempt.
    pub fn once(address: &str) -> Self {
        Self { call_time: Duration::ZERO, ..Self::new(&[address.to_string()]) }
    }

    /// How long one node may take to answer, and how long a call with all its attempts.
    pub fn with_times(self, attempt_time: Duration, call_time: Duration) -> Self {
        Self { attempt_time, call_time, ..self }
    }

    /// Makes a call again and again until it is answered, with the same request each time.
    ///
    /// # Errors
    /// A refusal, or the last failure when the time is up.
    pub async fn call<Q: Clone, A, W>(
        &self,
        request: Q,
        rpc: impl Fn(WorkflowServiceClient<Channel>, Request<Q>) -> W,
    ) -> Result<A, Status>
    where
        W: Future<Output = Result<tonic::Response<A>, Status>>,
    {
        let end = Instant::now() + self.call_time;
        for channel in self.nodes.iter().cycle() {
            let client = WorkflowServiceClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
            let mut attempt = Request::new(request.clone());
            attempt.set_timeout(self.attempt_time);
            let outcome = tokio::time::timeout(self.attempt_time, rpc(client, attempt)).await;
            let failure = match outcome {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer"),
            };
            if !may_be_repeated(failure.code()) || Instant::now() >= end {
                return Err(failure);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        Err(Status::unavailable("there is no node"))
    }

    pub async fn namespace_id(&self) -> Result<String, Status> {
        let request = DescribeNamespaceRequest { namespace: NAMESPACE.to_string(), ..Default::default() };
        let answer = self.call(request, |mut client, request| async move { client.describe_namespace(request).await });
        Ok(answer.await?.namespace_info.unwrap_or_default().id)
    }

    /// Starts a workflow; its run id. Repeated with the same request id, it starts one.
    pub async fn start(
        &self,
        workflow_id: &str,
        workflow_type: &str,
        queue: &str,
        input: &impl Serialize,
        request_id: &str,
    ) -> Result<String, Status> {
        self.start_with(start_request(workflow_id, workflow_type, queue, input, request_id)).await
    }

    /// Starts a workflow that nobody works on and that times out after so long; its run id.
    pub async fn start_timed(&self, workflow_id: &str, time: Duration) -> Result<String, Status> {
        let time = prost_types::Duration::try_from(time).expect("not as long as that");
        let request = start_request(workflow_id, "W", "nobody-polls-this", &(), workflow_id);
        self.start_with(StartWorkflowExecutionRequest { workflow_run_timeout: Some(time), ..request }).await
    }

    async fn start_with(&self, request: StartWorkflowExecutionRequest) -> Result<String, Status> {
        let start = |mut client: WorkflowServiceClient<Channel>, request| async move {
            client.start_workflow_execution(request).await
        };
        Ok(self.call(request, start).await?.run_id)
    }

    /// Signals a workflow; repeated with the same request id, it is one signal.
    pub async fn signal(
        &self,
        workflow_id: &str,
        signal: &str,
        input: &impl Serialize,
        request_id: &str,
    ) -> Result<(), Status> {
        let request = SignalWorkflowExecutionRequest {
            namespace: NAMESPACE.to_string(),
            workflow_execution: Some(execution(workflow_id, "")),
            signal_name: signal.to_string(),
            input: Some(payloads(input)),
            request_id: request_id.to_string(),
            identity: "cluster-tests".to_string(),
            ..Default::default()
        };
        let signal = |mut client: WorkflowServiceClient<Channel>, request| async move {
            client.signal_workflow_execution(request).await
        };
        self.call(request, signal).await.map(|_| ())
    }

    pub async fn describe(&self, workflow_id: &str) -> Result<WorkflowExecutionInfo, Status> {
        let request = DescribeWorkflowExecutionRequest {
            namespace: NAMESPACE.to_string(),
            execution: Some(execution(workflow_id, "")),
        };
        let describe = |mut client: WorkflowServiceClient<Channel>, request| async move {
            client.describe_workflow_execution(request).await
        };
        Ok(self.call(request, describe).await?.workflow_execution_info.unwrap_or_default())
    }

    /// All events of a run (of the current one without a run id), page by page.
    pub async fn history(&self, workflow_id: &str, run_id: &str) -> Result<Vec<HistoryEvent>, Status> {
        let mut events = Vec::new();
        let mut token = Bytes::new();
        loop {
            let request = history_request(workflow_id, run_id, token, false);
            let page = self.call(request, get_history).await?;
            events.extend(page.history.unwrap_or_default().events);
            token = page.next_page_token;
            if token.is_empty() {
                return Ok(events);
            }
        }
    }

    /// Waits until a run is closed; its last event.
    pub async fn closed(&self, workflow_id: &str, run_id: &str) -> Result<HistoryEvent, Status> {
        let end = Instant::now() + self.call_time;
        let mut token = Bytes::new();
        loop {
            let page = self.call(history_request(workflow_id, run_id, token, true), get_history).await?;
            token = page.next_page_token;
            if let Some(event) = page.history.unwrap_or_default().events.pop() {
                return Ok(event);
            }
            if Instant::now() >= end {
                return Err(Status::deadline_exceeded(format!("{workflow_id} is still open")));
            }
        }
    }

    /// How many executions match a filter.
    pub async fn count(&self, query: &str) -> Result<i64, Status> {
        let request = CountWorkflowExecutionsRequest { namespace: NAMESPACE.to_string(), query: query.to_string() };
        let count = |mut client: WorkflowServiceClient<Channel>, request| async move {
            client.count_workflow_executions(request).await
        };
        Ok(self.call(request, count).await?.count)
    }

    /// All executions that match a filter.
    pub async fn list(&self, query: &str) -> Result<Vec<WorkflowExecutionInfo>, Status> {
        let mut found = Vec::new();
        let mut token = Bytes::new();
        loop {
            let request = ListWorkflowExecutionsRequest {
                namespace: NAMESPACE.to_string(),
                query: query.to_string(),
                next_page_token: token,
                ..Default::default()
            };
            let list = |mut client: WorkflowServiceClient<Channel>, request| async move {
                client.list_workflow_executions(request).await
            };
            let page = self.call(request, list).await?;
            found.extend(page.executions);
            token = page.next_page_token;
            if token.is_empty() {
                return Ok(found);
            }
        }
    }
}

fn start_request(
    workflow_id: &str,
    workflow_type: &str,
    queue: &str,
    input: &impl Serialize,
    request_id: &str,
) -> StartWorkflowExecutionRequest {
    StartWorkflowExecutionRequest {
        namespace: NAMESPACE.to_string(),
        workflow_id: workflow_id.to_string(),
        workflow_type: Some(WorkflowType { name: workflow_type.to_string() }),
        task_queue: Some(TaskQueue { name: queue.to_string(), ..Default::default() }),
        input: Some(payloads(input)),
        request_id: request_id.to_string(),
        identity: "cluster-tests".to_string(),
        ..Default::default()
    }
}

/// What a run returned, by its closing event.
pub fn result<T: DeserializeOwned>(closing: &HistoryEvent) -> anyhow::Result<T> {
    let Some(Attributes::WorkflowExecutionCompletedEventAttributes(completed)) = &closing.attributes else {
        anyhow::bail!("the run ended with {:?}", closing.event_type());
    };
    let payload = completed.result.as_ref().and_then(|result| result.payloads.first()).context("no result")?;
    Ok(serde_json::from_slice(&payload.data)?)
}

/// Checks what every history must be: events 1 to n without a hole, of which the first starts and only the last closes,
/// and no task that was completed twice.
///
/// # Errors
/// It is not; says where.
pub fn check_history(events: &[HistoryEvent]) -> anyhow::Result<()> {
    for (event, expected) in events.iter().zip(1..) {
        ensure!(event.event_id == expected, "event {} stands where {expected} belongs", event.event_id);
    }
    let starts =
        |event: &HistoryEvent| matches!(event.attributes, Some(Attributes::WorkflowExecutionStartedEventAttributes(_)));
    let closes = |event: &HistoryEvent| {
        matches!(
            event.attributes,
            Some(
                Attributes::WorkflowExecutionCompletedEventAttributes(_)
                    | Attributes::WorkflowExecutionFailedEventAttributes(_)
                    | Attributes::WorkflowExecutionTimedOutEventAttributes(_)
                    | Attributes::WorkflowExecutionCanceledEventAttributes(_)
                    | Attributes::WorkflowExecutionTerminatedEventAttributes(_)
                    | Attributes::WorkflowExecutionContinuedAsNewEventAttributes(_)
            )
        )
    };
    ensure!(events.iter().filter(|event| starts(event)).count() == 1, "it does not start once");
    ensure!(events.first().is_some_and(starts), "it begins with something else");
    let closing = events.iter().filter(|event| closes(event)).count();
    ensure!(closing <= 1, "it closes {closing} times");
    ensure!(closing == 0 || events.last().is_some_and(closes), "it goes on after its end");
    let mut done = BTreeSet::new();
    for scheduled in events.iter().filter_map(task_done) {
        ensure!(done.insert(scheduled), "the task that event {scheduled} scheduled was completed twice");
    }
    Ok(())
}

/// The event that scheduled the task whose completion this event is.
fn task_done(event: &HistoryEvent) -> Option<i64> {
    match event.attributes.as_ref()? {
        Attributes::WorkflowTaskCompletedEventAttributes(done) => Some(done.scheduled_event_id),
        Attributes::ActivityTaskCompletedEventAttributes(done) => Some(done.scheduled_event_id),
        _ => None,
    }
}

async fn get_history(
    mut client: WorkflowServiceClient<Channel>,
    request: Request<GetWorkflowExecutionHistoryRequest>,
) -> Result<
    tonic::Response<bristlecone_proto::temporal::api::workflowservice::v1::GetWorkflowExecutionHistoryResponse>,
    Status,
> {
    client.get_workflow_execution_history(request).await
}

fn history_request(
    workflow_id: &str,
    run_id: &str,
    token: Bytes,
    wait_for_close: bool,
) -> GetWorkflowExecutionHistoryRequest {
    let filter = match wait_for_close {
        true => HistoryEventFilterType::CloseEvent,
        false => HistoryEventFilterType::AllEvent,
    };
    GetWorkflowExecutionHistoryRequest {
        namespace: NAMESPACE.to_string(),
        execution: Some(execution(workflow_id, run_id)),
        next_page_token: token,
        wait_new_event: wait_for_close,
        history_event_filter_type: filter.into(),
        skip_archival: true,
        ..Default::default()
    }
}

pub fn execution(workflow_id: &str, run_id: &str) -> WorkflowExecution {
    WorkflowExecution { workflow_id: workflow_id.to_string(), run_id: run_id.to_string() }
}

/// A value as the SDKs encode it.
pub fn payloads(value: &impl Serialize) -> Payloads {
    let metadata = [("encoding".to_string(), Bytes::from_static(b"json/plain"))].into();
    let data = serde_json::to_vec(value).expect("plain values").into();
    Payloads { payloads: vec![Payload { metadata, data, ..Default::default() }] }
}

/// Whether a failure says nothing about the request itself: it may succeed elsewhere, or later.
fn may_be_repeated(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::ResourceExhausted
            | Code::Aborted
    )
}
