//! Simulated workers: they carry scripts out as an SDK's worker would on the wire, and misbehave now and then.
//!
//! # Contract
//! Every workflow task is decided by replaying the whole history: the commands of each former task must be what the
//! script decides from the events before it, and Started events must be the bytes that were seen when the task was
//! carried out. A worker may die (its cache with it), stall beyond its timeouts, fail, and complete twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bristlecone_proto::temporal::api::enums::v1::{QueryResultType, TaskQueueKind, WorkflowTaskFailedCause};
use bristlecone_proto::temporal::api::failure::v1::Failure;
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::query::v1::WorkflowQueryResult;
use bristlecone_proto::temporal::api::taskqueue::v1::{StickyExecutionAttributes, TaskQueue};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    GetWorkflowExecutionHistoryRequest, PollActivityTaskQueueRequest, PollActivityTaskQueueResponse,
    PollWorkflowTaskQueueRequest, PollWorkflowTaskQueueResponse, RespondActivityTaskCompletedRequest,
    RespondActivityTaskFailedRequest, RespondQueryTaskCompletedRequest, RespondWorkflowTaskCompletedRequest,
    RespondWorkflowTaskFailedRequest,
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Request, Status};

use super::invariants::{b2_histories, b4_once, replay};
use super::linear::{Answer, Ask};
use super::rng::Rng;
use super::script;
use super::updates;
use super::world::World;

const POLL_TIME: Duration = Duration::from_secs(8);
const NAMESPACE: &str = "default";

/// One poller of one worker.
#[derive(Debug)]
pub struct Poller {
    pub world: Arc<World>,
    pub worker: u64,
    pub rng: Rng,
    /// Histories of runs whose next tasks come to the sticky queue; of all pollers of the worker.
    pub cache: Arc<Mutex<BTreeMap<String, Vec<HistoryEvent>>>>,
}

/// What a poller looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Workflow,
    Sticky,
    Activity,
}

impl Poller {
    pub async fn run(mut self, kind: Kind) {
        loop {
            let done = match kind {
                Kind::Workflow | Kind::Sticky => self.workflow_task(kind).await,
                Kind::Activity => self.activity_task().await,
            };
            if done.is_err() {
                let pause = self.rng.millis(20..=200);
                sleep(pause).await;
            }
        }
    }

    fn sticky_queue(&self) -> String {
        format!("sticky-{}", self.worker)
    }

    async fn workflow_task(&mut self, kind: Kind) -> Result<(), Status> {
        let queue = match kind {
            Kind::Sticky => TaskQueue {
                name: self.sticky_queue(),
                kind: TaskQueueKind::Sticky.into(),
                normal_name: script::QUEUE.to_string(),
            },
            _ => script::queue(),
        };
        let mut request = Request::new(PollWorkflowTaskQueueRequest {
            namespace: NAMESPACE.to_string(),
            task_queue: Some(queue),
            identity: format!("worker-{}", self.worker),
            ..PollWorkflowTaskQueueRequest::default()
        });
        request.set_timeout(POLL_TIME);
        let mut service = self.world.service(&mut self.rng);
        let polled = timeout(POLL_TIME + Duration::from_secs(1), service.poll_workflow_task_queue(request));
        let task = polled.await.map_err(|_| Status::deadline_exceeded("no answer"))??.into_inner();
        if task.task_token.is_empty() {
            return Ok(());
        }
        self.carry_out(task).await
    }

    async fn carry_out(&mut self, task: PollWorkflowTaskQueueResponse) -> Result<(), Status> {
        let execution = task.workflow_execution.clone().unwrap_or_default();
        let (workflow_id, run_id) = (execution.workflow_id, execution.run_id);
        self.world.tally.count("workflow task");
        let Some(events) = self.history(&task, &workflow_id, &run_id).await? else {
            return self.forget(task).await;
        };
        let world = Arc::clone(&self.world);
        if let Some(query) = &task.query {
            world.tally.count("query task");
            let answer = RespondQueryTaskCompletedRequest {
                namespace: NAMESPACE.to_string(),
                task_token: task.task_token,
                completed_type: QueryResultType::Answered.into(),
                query_result: Some(script::payload(&script::signals(&events).to_string())),
                ..RespondQueryTaskCompletedRequest::default()
            };
            debug_assert!(!query.query_type.is_empty());
            return world.service(&mut self.rng).respond_query_task_completed(answer).await.map(|_| ());
        }
        b2_histories::shown(&world, &workflow_id, &run_id, &events);
        replay::check(&world, &workflow_id, &run_id, &events);
        match self.rng.below(100) {
            0..=2 => {
                world.tally.count("worker died");
                self.cache.lock().clear();
                return Ok(());
            }
            3..=4 => {
                world.tally.count("workflow task stalled");
                let pause = self.rng.millis(2_500..=5_000);
                sleep(pause).await;
            }
            5..=6 => {
                world.tally.count("workflow task failed");
                return self.forget(task).await;
            }
            _ => {
                let pause = self.rng.millis(0..=10);
                sleep(pause).await;
            }
        }
        let answers = updates::answer(&task.messages, &mut self.rng);
        let mut commands = answers.commands;
        commands.extend(script::decide(&workflow_id, &events));
        // A task that only rejected updates may leave no trace.
        let traceless = commands.is_empty() && !answers.messages.is_empty();
        let messages = answers.messages;
        let queries = task.queries.keys().map(|id| {
            let answer = script::payload(&script::signals(&events).to_string());
            let result = WorkflowQueryResult {
                result_type: QueryResultType::Answered.into(),
                answer: Some(answer),
                ..WorkflowQueryResult::default()
            };
            (id.clone(), result)
        });
        let request = RespondWorkflowTaskCompletedRequest {
            namespace: NAMESPACE.to_string(),
            task_token: task.task_token,
            identity: format!("worker-{}", self.worker),
            commands,
            messages,
            query_results: queries.collect(),
            sticky_attributes: world.options.sticky.then(|| StickyExecutionAttributes {
                worker_task_queue: Some(TaskQueue {
                    name: self.sticky_queue(),
                    kind: TaskQueueKind::Sticky.into(),
                    normal_name: script::QUEUE.to_string(),
                }),
                schedule_to_start_timeout: script::millis(2_000),
            }),
            ..RespondWorkflowTaskCompletedRequest::default()
        };
        let started = task.started_event_id;
        world.ledger.known.lock().sent.entry((run_id.clone(), started)).or_insert_with(Instant::now);
        let twice = self.rng.per_mille(40);
        let status = self.answer(&request, &workflow_id, &run_id).await;
        world.trace.line(&format!(
            "{workflow_id} task {started}: {:?}",
            status.as_ref().map(|()| "done").map_err(Status::code)
        ));
        if status.is_ok() {
            world.tally.count("workflow task done");
            if !traceless {
                b4_once::task_accepted(&world, &run_id, started, &events);
            }
            if world.options.sticky {
                self.cache.lock().insert(run_id.clone(), events.clone());
            }
        } else {
            // It may have been carried out: then what is cached is no longer what the run is at.
            self.cache.lock().remove(&run_id);
        }
        if twice {
            world.tally.count("workflow task done twice");
            if self.answer(&request, &workflow_id, &run_id).await.is_ok() && !traceless {
                b4_once::task_accepted(&world, &run_id, started, &events);
            }
        }
        status
    }

    /// Answers, and answers again while it is unknown whether the answer was taken.
    async fn answer(
        &mut self,
        request: &RespondWorkflowTaskCompletedRequest,
        workflow_id: &str,
        run_id: &str,
    ) -> Result<(), Status> {
        let closes = script::closes(&request.commands).then(|| Ask::Close { run: run_id.to_string() });
        let mut last = Status::unavailable("");
        for _ in 0..4 {
            let mut call = Request::new(request.clone());
            call.set_timeout(Duration::from_secs(5));
            let under = closes.clone().map(|ask| self.world.calls.call(workflow_id, ask));
            match self.world.service(&mut self.rng).respond_workflow_task_completed(call).await {
                Ok(_) => {
                    if let Some(under) = &under {
                        self.world.calls.returned(under, Answer::Done);
                    }
                    return Ok(());
                }
                Err(status) if is_passing(&status) => last = status,
                Err(status) => return Err(status),
            }
            let pause = self.rng.millis(10..=300);
            sleep(pause).await;
        }
        Err(last)
    }

    /// The whole history up to the task; `None` when the cache lacks what the task builds on.
    async fn history(
        &mut self,
        task: &PollWorkflowTaskQueueResponse,
        workflow_id: &str,
        run_id: &str,
    ) -> Result<Option<Vec<HistoryEvent>>, Status> {
        let mut fresh = task.history.clone().unwrap_or_default().events;
        let mut token = task.next_page_token.clone();
        while !token.is_empty() {
            let request = GetWorkflowExecutionHistoryRequest {
                namespace: NAMESPACE.to_string(),
                execution: task.workflow_execution.clone(),
                next_page_token: token,
                ..GetWorkflowExecutionHistoryRequest::default()
            };
            let page = self.world.service(&mut self.rng).get_workflow_execution_history(request).await?.into_inner();
            fresh.extend(page.history.unwrap_or_default().events);
            token = page.next_page_token;
        }
        let known = self.cache.lock().get(run_id).cloned();
        let mut events = match (fresh.first().map(|event| event.event_id), known) {
            (Some(1), _) => Vec::new(),
            (Some(_), Some(known)) => known,
            // A query that needs nothing new.
            (None, known) => return Ok(known),
            (Some(_), None) => return Ok(None),
        };
        let first = fresh.first().map_or(1, |event| event.event_id);
        if first > events.len() as i64 + 1 {
            return Ok(None);
        }
        // What the cache holds beyond is the worker's own former task, which comes again as it is.
        events.truncate(usize::try_from(first - 1).unwrap_or(0));
        events.extend(fresh);
        b2_histories::contiguous(&self.world, workflow_id, run_id, &events);
        Ok(Some(events))
    }

    async fn forget(&mut self, task: PollWorkflowTaskQueueResponse) -> Result<(), Status> {
        if task.query.is_some() {
            let answer = RespondQueryTaskCompletedRequest {
                namespace: NAMESPACE.to_string(),
                task_token: task.task_token,
                completed_type: QueryResultType::Failed.into(),
                error_message: "not cached".to_string(),
                ..RespondQueryTaskCompletedRequest::default()
            };
            return self.world.service(&mut self.rng).respond_query_task_completed(answer).await.map(|_| ());
        }
        let request = RespondWorkflowTaskFailedRequest {
            namespace: NAMESPACE.to_string(),
            task_token: task.task_token,
            cause: WorkflowTaskFailedCause::ResetStickyTaskQueue.into(),
            identity: format!("worker-{}", self.worker),
            ..RespondWorkflowTaskFailedRequest::default()
        };
        self.world.service(&mut self.rng).respond_workflow_task_failed(request).await.map(|_| ())
    }

    async fn activity_task(&mut self) -> Result<(), Status> {
        let mut request = Request::new(PollActivityTaskQueueRequest {
            namespace: NAMESPACE.to_string(),
            task_queue: Some(script::queue()),
            identity: format!("worker-{}", self.worker),
            ..PollActivityTaskQueueRequest::default()
        });
        request.set_timeout(POLL_TIME);
        let mut service = self.world.service(&mut self.rng);
        let polled = timeout(POLL_TIME + Duration::from_secs(1), service.poll_activity_task_queue(request));
        let task = polled.await.map_err(|_| Status::deadline_exceeded("no answer"))??.into_inner();
        if task.task_token.is_empty() {
            return Ok(());
        }
        self.world.tally.count("activity task");
        self.do_activity(task).await
    }

    async fn do_activity(&mut self, task: PollActivityTaskQueueResponse) -> Result<(), Status> {
        let tally = Arc::clone(&self.world.tally);
        let mut times = 1;
        match self.rng.below(100) {
            0..=5 => {
                tally.count("activity abandoned");
                return Ok(());
            }
            6..=11 => {
                tally.count("activity failed");
                let failure = Failure { message: "as the seed has it".into(), ..Failure::default() };
                let request = RespondActivityTaskFailedRequest {
                    namespace: NAMESPACE.to_string(),
                    task_token: task.task_token,
                    failure: Some(failure),
                    ..RespondActivityTaskFailedRequest::default()
                };
                return self.world.service(&mut self.rng).respond_activity_task_failed(request).await.map(|_| ());
            }
            12..=16 => {
                tally.count("activity stalled");
                let pause = self.rng.millis(2_000..=4_000);
                sleep(pause).await;
            }
            17..=24 => times = 2,
            _ => {
                let pause = self.rng.millis(0..=100);
                sleep(pause).await;
            }
        }
        for _ in 0..times {
            self.complete_activity(&task).await;
        }
        Ok(())
    }

    async fn complete_activity(&mut self, task: &PollActivityTaskQueueResponse) {
        let execution = task.workflow_execution.clone().unwrap_or_default();
        for _ in 0..4 {
            let mut request = Request::new(RespondActivityTaskCompletedRequest {
                namespace: NAMESPACE.to_string(),
                task_token: task.task_token.clone(),
                result: Some(script::payload(&format!("{} {}", task.activity_id, task.attempt))),
                ..RespondActivityTaskCompletedRequest::default()
            });
            request.set_timeout(Duration::from_secs(5));
            let status = self.world.service(&mut self.rng).respond_activity_task_completed(request).await;
            let code = status.as_ref().map_or_else(Status::code, |_| Code::Ok);
            let line = format!("{} {} attempt {}: {code:?}", execution.workflow_id, task.activity_id, task.attempt);
            self.world.trace.line(&line);
            match status {
                Ok(_) => {
                    self.world.tally.count("activity done");
                    b4_once::activity_accepted(&self.world, &execution.run_id, &task.activity_id, task.attempt);
                    return;
                }
                Err(status) if is_passing(&status) => {}
                Err(_) => return,
            }
            let pause = self.rng.millis(10..=300);
            sleep(pause).await;
        }
    }
}

/// Whether another attempt may be answered differently.
pub fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Unknown
            | Code::Aborted
            | Code::Cancelled
            | Code::Internal
    )
}
