//! A job's activity: pages of executions, operated a few at a time.

use std::time::Duration;

use bristlecone_machine::reply::code;
use bristlecone_proto::chain::Rejection;
use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    CountWorkflowExecutionsRequest, ListWorkflowExecutionsRequest, PollActivityTaskQueueResponse,
    RecordActivityTaskHeartbeatRequest, StartBatchOperationRequest,
};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::operate::{Failed, Operator};
use super::pace::Pace;
use super::progress::{Progress, json, payloads, read};
use super::{job, request};
use crate::grpc::workflow_service as api;
use crate::grpc::{Call, Edge};

/// Executions that a heartbeat names.
const PAGE_EXECUTIONS: usize = 100;
/// How often progress is noted.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// How often one execution is tried again.
const RETRIES_MAX: u32 = 50;

/// How an activity ended.
#[derive(Debug)]
pub enum End {
    Done(Box<Progress>),
    /// The job cannot be carried out, ever.
    Refused(String),
    /// This attempt came to nothing; another may go on.
    Failed(Rejection),
    /// The job's cancellation was asked for.
    Canceled,
    /// The activity is not this node's any more, or the job is over.
    Gone,
}

/// Carries a job out, from where its last heartbeat says that it is.
pub async fn run(edge: &Edge, namespace: &str, task: &PollActivityTaskQueueResponse) -> End {
    let Some(request) = job::decoded(task.input.as_ref()) else { return End::Refused("the job has no input".into()) };
    let settings = edge.cluster().settings_of(namespace);
    let limits = &settings.core;
    let asked = f64::from(request.max_operations_per_second);
    let most = f64::from(limits.batch_rps);
    let run = Run {
        edge,
        namespace,
        task,
        request: &request,
        query: request::query(&request),
        pace: Pace::new(if asked > 0.0 { asked.min(most) } else { most }),
        at_once: usize::try_from(limits.batch_concurrency).unwrap_or(1).max(1),
    };
    match run.all().await {
        Ok(progress) => End::Done(Box::new(progress)),
        Err(end) => end,
    }
}

struct Run<'a> {
    edge: &'a Edge,
    namespace: &'a str,
    task: &'a PollActivityTaskQueueResponse,
    request: &'a StartBatchOperationRequest,
    query: Option<String>,
    pace: Pace,
    at_once: usize,
}

impl Run<'_> {
    async fn all(&self) -> Result<Progress, End> {
        let known: Option<Progress> = read(self.task.heartbeat_details.as_ref());
        let mut progress = match known {
            Some(progress) => progress,
            None => Progress { total_estimate: self.estimate().await?, ..Progress::default() },
        };
        self.note(&progress).await?;
        loop {
            if progress.pending.is_empty() {
                if progress.is_last {
                    return Ok(progress);
                }
                self.next_page(&mut progress).await?;
                self.note(&progress).await?;
            }
            self.work_off(&mut progress).await?;
        }
    }

    async fn estimate(&self) -> Result<i64, End> {
        let Some(query) = &self.query else {
            return Ok(i64::try_from(self.request.executions.len()).unwrap_or(i64::MAX));
        };
        let count = CountWorkflowExecutionsRequest { namespace: self.namespace.to_owned(), query: query.clone() };
        let counted = api::count_workflow_executions::handle(self.edge.clone(), Call::own(), count).await;
        counted.map(|counted| counted.count).map_err(listing_failed)
    }

    /// The executions that come next, and where to go on after them.
    async fn next_page(&self, progress: &mut Progress) -> Result<(), End> {
        let pair = |execution: &WorkflowExecution| (execution.workflow_id.clone(), execution.run_id.clone());
        let page = usize::try_from(progress.current_page).unwrap_or(usize::MAX);
        progress.current_page += 1;
        let Some(query) = &self.query else {
            let begin = page.saturating_mul(PAGE_EXECUTIONS);
            let executions = &self.request.executions;
            progress.pending = executions.iter().skip(begin).take(PAGE_EXECUTIONS).map(pair).collect();
            progress.is_last = begin.saturating_add(PAGE_EXECUTIONS) >= executions.len();
            return Ok(());
        };
        let list = ListWorkflowExecutionsRequest {
            namespace: self.namespace.to_owned(),
            page_size: i32::try_from(PAGE_EXECUTIONS).unwrap_or(i32::MAX),
            next_page_token: Bytes::from(progress.page_token.clone()),
            query: query.clone(),
        };
        let listed = api::list_workflow_executions::handle(self.edge.clone(), Call::own(), list).await;
        let listed = listed.map_err(listing_failed)?;
        progress.pending = listed.executions.iter().filter_map(|info| info.execution.as_ref()).map(pair).collect();
        progress.is_last = listed.next_page_token.is_empty();
        progress.page_token = listed.next_page_token.to_vec();
        Ok(())
    }

    /// Operates what is left of the page, and notes it from time to time.
    async fn work_off(&self, progress: &mut Progress) -> Result<(), End> {
        let left: Vec<WorkflowExecution> = progress
            .pending
            .iter()
            .map(|(workflow_id, run_id)| WorkflowExecution { workflow_id: workflow_id.clone(), run_id: run_id.clone() })
            .collect();
        let mut left = left.into_iter();
        let mut under_way: FuturesUnordered<_> = left.by_ref().take(self.at_once).map(|it| self.one(it)).collect();
        let mut ticks = interval(NOTE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        loop {
            tokio::select! {
                done = under_way.next() => match done {
                    Some((execution, succeeded)) => {
                        progress.done(&execution, succeeded);
                        under_way.extend(left.next().map(|it| self.one(it)));
                    }
                    None => return Ok(()),
                },
                _ = ticks.tick() => self.note(progress).await?,
            }
        }
    }

    /// One execution, as often as it takes.
    async fn one(&self, execution: WorkflowExecution) -> (WorkflowExecution, bool) {
        let job_run_id = self.task.workflow_execution.as_ref().map_or("", |job| &job.run_id);
        let operator = Operator { edge: self.edge, namespace: self.namespace, job_run_id, request: self.request };
        for attempt in 0..=RETRIES_MAX {
            self.pace.wait().await;
            match operator.operate(&execution).await {
                Ok(()) => return (execution, true),
                Err(Failed::Finally(reason)) => {
                    let workflow_id = &execution.workflow_id;
                    tracing::info!(workflow_id, reason, "an operation of a batch job failed");
                    return (execution, false);
                }
                Err(Failed::For(rejection)) => {
                    tracing::debug!(
                        workflow_id = execution.workflow_id,
                        attempt,
                        reason = rejection.message,
                        "an operation of a batch job failed"
                    );
                    // A shard without a leader will have one soon.
                    if rejection.code == code::UNAVAILABLE {
                        sleep(NOTE_EVERY.min(Duration::from_millis(20) * attempt)).await;
                    }
                }
            }
        }
        (execution, false)
    }

    /// Tells the job how far it is; ends when the job does not want to hear it any more.
    async fn note(&self, progress: &Progress) -> Result<(), End> {
        const PATIENCE: Duration = Duration::from_secs(8);
        let begun = Instant::now();
        loop {
            let heartbeat = RecordActivityTaskHeartbeatRequest {
                namespace: self.namespace.to_owned(),
                task_token: self.task.task_token.clone(),
                details: Some(payloads(json(progress))),
                identity: super::worker::IDENTITY.into(),
                ..RecordActivityTaskHeartbeatRequest::default()
            };
            match api::record_activity_task_heartbeat::handle(self.edge.clone(), Call::own(), heartbeat).await {
                Ok(answer) if answer.cancel_requested => return Err(End::Canceled),
                Ok(_) => return Ok(()),
                Err(rejection) if rejection.code != code::UNAVAILABLE || begun.elapsed() > PATIENCE => {
                    return Err(End::Gone);
                }
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

/// A query that is wrong stays wrong.
fn listing_failed(rejection: Rejection) -> End {
    if rejection.code == code::INVALID_ARGUMENT { End::Refused(rejection.message) } else { End::Failed(rejection) }
}
