//! The nodes' own workers: they poll the jobs' queue of a namespace while there is something to do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bristlecone_proto::chain::Rejection;
use bristlecone_proto::temporal::api::failure::v1::failure::FailureInfo;
use bristlecone_proto::temporal::api::failure::v1::{ApplicationFailureInfo, Failure};
use bristlecone_proto::temporal::api::history::v1::{History, HistoryEvent};
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    PollActivityTaskQueueRequest, PollActivityTaskQueueResponse, PollWorkflowTaskQueueRequest,
    PollWorkflowTaskQueueResponse, RespondActivityTaskCanceledRequest, RespondActivityTaskCompletedRequest,
    RespondActivityTaskFailedRequest, RespondWorkflowTaskCompletedRequest,
};
use bristlecone_storage::runtime::Tasks;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::progress::{json, payloads};
use super::run::{End, run};
use super::{TASK_QUEUE, job};
use crate::grpc::workflow_service as api;
use crate::grpc::{Call, Edge, chain_id};

pub const IDENTITY: &str = "temporal-system";
/// How long a poll waits.
const POLL: Duration = Duration::from_secs(20);
/// The worker of a namespace ends when there was nothing to do for so long.
const IDLE: Duration = Duration::from_secs(15);
/// A poll that ends sooner than this, with nothing, was sent away: the node stops.
const SENT_AWAY: Duration = Duration::from_secs(1);
/// Tasks of a namespace that a node carries out at once.
const JOBS_MAX: usize = 16;

/// Serves the namespaces, by id, that are named because tasks were offered there; never ends.
pub async fn work(edge: Edge, tasks: Tasks, mut offered: mpsc::Receiver<String>) {
    let served: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    while let Some(namespace_id) = offered.recv().await {
        if !served.lock().insert(namespace_id.clone()) {
            continue;
        }
        let (edge, served) = (edge.clone(), Arc::clone(&served));
        tasks.spawn(async move {
            let name = edge.cluster().meta().namespace_by_id(&namespace_id).map(|entry| entry.record.name.clone());
            if let Some(name) = name {
                let worker = Worker { edge: &edge, namespace: &name };
                worker.work().await;
            }
            // Tasks that were offered meanwhile are offered again.
            served.lock().remove(&namespace_id);
        });
    }
}

/// The worker of one namespace.
struct Worker<'a> {
    edge: &'a Edge,
    namespace: &'a str,
}

impl Worker<'_> {
    /// Takes tasks of both kinds until none came for as long as a poll waits, and carries them out side by side.
    async fn work(&self) {
        let mut under_way: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        let mut decisions = self.poll_workflow().boxed();
        let mut activities = self.poll_activity().boxed();
        let mut last = Instant::now();
        let mut polls = true;
        loop {
            tokio::select! {
                (task, began) = &mut decisions, if polls => {
                    match task {
                        Some(task) => {
                            last = Instant::now();
                            under_way.push(self.decide(task).boxed());
                        }
                        None => polls = goes_on(began, last, under_way.is_empty()),
                    }
                    decisions = self.poll_workflow().boxed();
                }
                (task, began) = &mut activities, if polls && under_way.len() < JOBS_MAX => {
                    match task {
                        Some(task) => {
                            last = Instant::now();
                            under_way.push(self.job(task).boxed());
                        }
                        None => polls = goes_on(began, last, under_way.is_empty()),
                    }
                    activities = self.poll_activity().boxed();
                }
                Some(()) = under_way.next() => last = Instant::now(),
                else => return,
            }
        }
    }

    async fn poll_workflow(&self) -> (Option<PollWorkflowTaskQueueResponse>, Instant) {
        let began = Instant::now();
        let poll = PollWorkflowTaskQueueRequest {
            namespace: self.namespace.to_owned(),
            task_queue: Some(queue()),
            identity: IDENTITY.into(),
            ..PollWorkflowTaskQueueRequest::default()
        };
        let task = api::poll_workflow_task_queue::handle(self.edge.clone(), Call::own_within(POLL), poll).await;
        (task.ok().filter(|task| !task.task_token.is_empty()), began)
    }

    async fn decide(&self, task: PollWorkflowTaskQueueResponse) {
        // A task that could not be answered times out and comes again.
        if let Err(rejection) = self.answer(task).await {
            tracing::debug!(reason = rejection.message, "a batch job's workflow task was not answered");
        }
    }

    async fn answer(&self, task: PollWorkflowTaskQueueResponse) -> Result<(), Rejection> {
        let events = self.events(&task).await?;
        let complete = RespondWorkflowTaskCompletedRequest {
            namespace: self.namespace.to_owned(),
            task_token: task.task_token,
            commands: job::decide(&events),
            identity: IDENTITY.into(),
            ..RespondWorkflowTaskCompletedRequest::default()
        };
        api::respond_workflow_task_completed::handle(self.edge.clone(), Call::own(), complete).await.map(|_| ())
    }

    /// The whole history up to the task.
    async fn events(&self, task: &PollWorkflowTaskQueueResponse) -> Result<Vec<HistoryEvent>, Rejection> {
        const PAGE_EVENTS: u32 = 1_000;
        let mut events = task.history.clone().unwrap_or_default().events;
        if task.next_page_token.is_empty() {
            return Ok(events);
        }
        let cluster = self.edge.cluster();
        let execution = task.workflow_execution.clone().unwrap_or_default();
        let chain = chain_id(&self.edge.namespace(self.namespace)?.record, &execution.workflow_id);
        // The started event may stand in no row yet, and decides nothing.
        let end = task.started_event_id;
        let mut next = events.last().map_or(1, |event| event.event_id + 1);
        while next != 0 && next < end {
            let by = Call::own().answer_by();
            let page = cluster.read_events(&chain, &execution.run_id, next, end, PAGE_EVENTS, false, by).await?;
            for batch in page.batches {
                let batch = History::decode(batch).unwrap_or_default();
                events.extend(batch.events.into_iter().filter(|event| event.event_id >= next));
            }
            next = page.next_event_id;
        }
        Ok(events)
    }

    async fn poll_activity(&self) -> (Option<PollActivityTaskQueueResponse>, Instant) {
        let began = Instant::now();
        let poll = PollActivityTaskQueueRequest {
            namespace: self.namespace.to_owned(),
            task_queue: Some(queue()),
            identity: IDENTITY.into(),
            ..PollActivityTaskQueueRequest::default()
        };
        let task = api::poll_activity_task_queue::handle(self.edge.clone(), Call::own_within(POLL), poll).await;
        (task.ok().filter(|task| !task.task_token.is_empty()), began)
    }

    /// One activity, from its task to its answer. An answer that does not arrive is missed by the job, which
    /// has the activity done again.
    async fn job(&self, task: PollActivityTaskQueueResponse) {
        let (edge, namespace) = (self.edge.clone(), self.namespace.to_owned());
        let (task_token, identity) = (task.task_token.clone(), IDENTITY.to_owned());
        let answered = match run(self.edge, self.namespace, &task).await {
            End::Done(progress) => {
                let result = Some(payloads(json(&*progress)));
                let request = RespondActivityTaskCompletedRequest {
                    namespace,
                    task_token,
                    result,
                    identity,
                    ..Default::default()
                };
                api::respond_activity_task_completed::handle(edge, Call::own(), request).await.map(|_| ())
            }
            End::Canceled => {
                let request =
                    RespondActivityTaskCanceledRequest { namespace, task_token, identity, ..Default::default() };
                api::respond_activity_task_canceled::handle(edge, Call::own(), request).await.map(|_| ())
            }
            End::Refused(message) => self.fail(failure(message, true), task_token).await,
            End::Failed(rejection) => self.fail(failure(rejection.message, false), task_token).await,
            End::Gone => Ok(()),
        };
        if let Err(rejection) = answered {
            tracing::debug!(reason = rejection.message, "a batch job did not take its result");
        }
    }

    async fn fail(&self, failure: Failure, task_token: bytes::Bytes) -> Result<(), Rejection> {
        let request = RespondActivityTaskFailedRequest {
            namespace: self.namespace.to_owned(),
            task_token,
            failure: Some(failure),
            identity: IDENTITY.into(),
            ..RespondActivityTaskFailedRequest::default()
        };
        api::respond_activity_task_failed::handle(self.edge.clone(), Call::own(), request).await.map(|_| ())
    }
}

/// Whether to poll again after a poll that began then and brought nothing; `last`: when there was work.
fn goes_on(began: Instant, last: Instant, idle: bool) -> bool {
    began.elapsed() >= SENT_AWAY && !(idle && last.elapsed() >= IDLE)
}

fn queue() -> TaskQueue {
    TaskQueue { name: TASK_QUEUE.into(), ..TaskQueue::default() }
}

fn failure(message: String, non_retryable: bool) -> Failure {
    let r#type = if non_retryable { "InvalidArgument".to_owned() } else { String::new() };
    let info = ApplicationFailureInfo { r#type, non_retryable, ..ApplicationFailureInfo::default() };
    let failure_info = Some(FailureInfo::ApplicationFailureInfo(info));
    Failure { message, source: "Server".into(), failure_info, ..Failure::default() }
}
