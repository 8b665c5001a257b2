//! The canned workers: they poll, do what the plan says, and answer, as an SDK's worker would on the wire.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::enums::v1::{TaskQueueKind, WorkflowTaskFailedCause};
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::taskqueue::v1::{StickyExecutionAttributes, TaskQueue};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    GetWorkflowExecutionHistoryRequest, PollActivityTaskQueueRequest, PollActivityTaskQueueResponse,
    PollWorkflowTaskQueueRequest, PollWorkflowTaskQueueResponse, RespondActivityTaskCompletedRequest,
    RespondWorkflowTaskCompletedRequest, RespondWorkflowTaskFailedRequest,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};

use super::Config;
use super::client::Client;
use super::ledger::Ledger;
use super::plan::{Plan, Progress, Scenario};
use super::update;

/// How long one poll waits: as SDKs have it.
const POLL_TIME: Duration = Duration::from_secs(70);
const STICKY_TIME: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// Running workers.
#[derive(Debug)]
pub struct Workers {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

#[derive(Debug, Clone)]
struct Worker {
    client: Client,
    plan: Arc<Plan>,
    ledger: Arc<Ledger>,
    /// What is known of runs whose next tasks come to the sticky queue.
    cache: Option<Arc<Mutex<HashMap<String, Progress>>>>,
    sticky_queue: String,
    identity: String,
    /// Tasks that may be on their way here at once.
    at_once: u64,
}

#[derive(Debug, Clone, Copy)]
enum Poll {
    Workflow,
    Sticky,
    Activity,
}

impl Workers {
    pub fn start(config: &Config, client: &Client, plan: &Arc<Plan>, ledger: &Arc<Ledger>) -> Self {
        let worker = Worker {
            client: client.clone(),
            plan: Arc::clone(plan),
            ledger: Arc::clone(ledger),
            cache: config.sticky.then(Arc::default),
            sticky_queue: format!("{}-sticky", plan.queue),
            identity: format!("bristlecone-bench-{}", plan.run),
            at_once: config.pollers as u64,
        };
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let scenario = plan.scenario;
        let polls = [
            (Poll::Workflow, true),
            (Poll::Sticky, config.sticky && !scenario.has_one_task()),
            (Poll::Activity, scenario.has_activities()),
        ];
        for (poll, _) in polls.into_iter().filter(|(_, wanted)| *wanted) {
            for _ in 0..config.pollers {
                let (worker, mut stopping) = (worker.clone(), stopping.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = worker.work(poll) => {}
                        _ = stopping.changed() => {}
                    }
                });
            }
        }
        Self { tasks, stop }
    }

    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Worker {
    async fn work(&self, poll: Poll) {
        loop {
            let worked = match poll {
                Poll::Workflow => self.workflow_task(&self.plan.queue, TaskQueueKind::Normal).await,
                Poll::Sticky => self.workflow_task(&self.sticky_queue, TaskQueueKind::Sticky).await,
                Poll::Activity => self.activity_task().await,
            };
            // A task that is late or a node that is away: as for any worker, the server gives it again.
            if worked.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn workflow_task(&self, queue: &str, kind: TaskQueueKind) -> Result<(), Status> {
        let normal_name = if kind == TaskQueueKind::Sticky { self.plan.queue.clone() } else { String::new() };
        let mut request = Request::new(PollWorkflowTaskQueueRequest {
            namespace: self.client.namespace(),
            task_queue: Some(TaskQueue { name: queue.to_string(), kind: kind.into(), normal_name }),
            identity: self.identity.clone(),
            ..PollWorkflowTaskQueueRequest::default()
        });
        request.set_timeout(POLL_TIME);
        let mut next = Some(self.client.service().poll_workflow_task_queue(request).await?.into_inner());
        while let Some(task) = next.take() {
            if task.task_token.is_empty() {
                return Ok(());
            }
            next = self.carry_out(task).await?;
        }
        Ok(())
    }

    /// Decides a workflow task and answers it; returns the task that came with the answer.
    async fn carry_out(
        &self,
        task: PollWorkflowTaskQueueResponse,
    ) -> Result<Option<PollWorkflowTaskQueueResponse>, Status> {
        let execution = task.workflow_execution.clone().unwrap_or_default();
        if let Some(scheduled) = &task.scheduled_time {
            self.ledger.task_arrived(since(scheduled));
        }
        let Some(progress) = self.progress(&task, &execution.run_id).await? else {
            return self.forget(task).await.map(|()| None);
        };
        self.note(&task, &execution);
        let answers = update::Answers::new(&task.messages);
        // What is answered now stands in the history that comes with the next task.
        let with_answers = Progress { updates: progress.updates + answers.count, ..progress };
        let mut decision = self.plan.decide(&execution.workflow_id, &with_answers);
        decision.commands.splice(..0, answers.commands);
        let request = RespondWorkflowTaskCompletedRequest {
            namespace: self.client.namespace(),
            task_token: task.task_token,
            identity: self.identity.clone(),
            commands: decision.commands,
            messages: answers.messages,
            return_new_workflow_task: true,
            sticky_attributes: self.cache.as_ref().filter(|_| !decision.completes).map(|_| StickyExecutionAttributes {
                worker_task_queue: Some(TaskQueue {
                    name: self.sticky_queue.clone(),
                    kind: TaskQueueKind::Sticky.into(),
                    normal_name: self.plan.queue.clone(),
                }),
                schedule_to_start_timeout: prost_types::Duration::try_from(STICKY_TIME).ok(),
            }),
            ..RespondWorkflowTaskCompletedRequest::default()
        };
        if let Some(cache) = &self.cache {
            let mut cache = cache.lock();
            // The completion of this task comes with the next one's events.
            match decision.completes {
                true => cache.remove(&execution.run_id),
                false => cache.insert(execution.run_id, progress),
            };
        }
        let answer = match self.answer(request).await {
            Ok(answer) => answer,
            // It timed out meanwhile, or an attempt whose answer was lost has been counted by the server.
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            Err(status) => return Err(status),
        };
        if let Some(number) = self.plan.number(&execution.workflow_id)
            && (decision.completes || (decision.rests && progress.tasks == 0))
        {
            self.ledger.completed(number);
        }
        for activity in answer.activity_tasks {
            let worker = self.clone();
            tokio::spawn(async move { worker.do_activity(activity).await });
        }
        Ok(answer.workflow_task)
    }

    /// What the ledger wants to know of a workflow's first task.
    fn note(&self, task: &PollWorkflowTaskQueueResponse, execution: &WorkflowExecution) {
        let Some(number) = self.plan.number(&execution.workflow_id) else { return };
        let started =
            task.history.as_ref().and_then(|history| history.events.first()).and_then(|first| first.event_time);
        match self.plan.scenario {
            Scenario::Schedules => {
                let due = SystemTime::UNIX_EPOCH + Duration::from_secs(self.plan.due(number));
                let started = started.and_then(|started| SystemTime::try_from(started).ok());
                let after = started.and_then(|started| started.duration_since(due).ok()).unwrap_or_default();
                self.ledger.was_due(number, &execution.run_id, after);
            }
            Scenario::Priorities => self.ledger.came(level(self.plan.priority(number)), self.at_once),
            _ => {}
        }
    }

    async fn answer(
        &self,
        request: RespondWorkflowTaskCompletedRequest,
    ) -> Result<bristlecone_proto::temporal::api::workflowservice::v1::RespondWorkflowTaskCompletedResponse, Status>
    {
        self.client
            .call(|mut service| {
                let request = request.clone();
                async move { service.respond_workflow_task_completed(request).await }
            })
            .await
    }

    /// What the run has seen up to this task; `None` when the cache lacks what the task builds on.
    async fn progress(&self, task: &PollWorkflowTaskQueueResponse, run_id: &str) -> Result<Option<Progress>, Status> {
        let events = task.history.as_ref().map(|history| history.events.as_slice()).unwrap_or_default();
        let whole = events.first().is_none_or(|event| event.event_id == 1);
        let known = self.cache.as_ref().and_then(|cache| cache.lock().get(run_id).copied());
        let mut progress = match (whole, known) {
            (true, _) => Progress::default(),
            (false, Some(known)) => known,
            (false, None) => return Ok(None),
        };
        progress.see(events);
        let mut token = task.next_page_token.clone();
        while !token.is_empty() {
            let (more, next) = self.page(task, token).await?;
            progress.see(&more);
            token = next;
        }
        Ok(Some(progress))
    }

    async fn page(
        &self,
        task: &PollWorkflowTaskQueueResponse,
        token: bytes::Bytes,
    ) -> Result<(Vec<HistoryEvent>, bytes::Bytes), Status> {
        let request = GetWorkflowExecutionHistoryRequest {
            namespace: self.client.namespace(),
            execution: task.workflow_execution.clone(),
            next_page_token: token,
            ..GetWorkflowExecutionHistoryRequest::default()
        };
        let page = self.client.call(|mut service| {
            let request = request.clone();
            async move { service.get_workflow_execution_history(request).await }
        });
        let page = page.await?;
        Ok((page.history.unwrap_or_default().events, page.next_page_token))
    }

    async fn forget(&self, task: PollWorkflowTaskQueueResponse) -> Result<(), Status> {
        let request = RespondWorkflowTaskFailedRequest {
            namespace: self.client.namespace(),
            task_token: task.task_token,
            cause: WorkflowTaskFailedCause::ResetStickyTaskQueue.into(),
            identity: self.identity.clone(),
            ..RespondWorkflowTaskFailedRequest::default()
        };
        self.client.service().respond_workflow_task_failed(request).await.map(|_| ())
    }

    async fn activity_task(&self) -> Result<(), Status> {
        let mut request = Request::new(PollActivityTaskQueueRequest {
            namespace: self.client.namespace(),
            task_queue: Some(self.plan.task_queue()),
            identity: self.identity.clone(),
            ..PollActivityTaskQueueRequest::default()
        });
        request.set_timeout(POLL_TIME);
        let task = self.client.service().poll_activity_task_queue(request).await?.into_inner();
        if !task.task_token.is_empty() {
            self.do_activity(task).await;
        }
        Ok(())
    }

    async fn do_activity(&self, task: PollActivityTaskQueueResponse) {
        let request = RespondActivityTaskCompletedRequest {
            namespace: self.client.namespace(),
            task_token: task.task_token,
            result: task.input,
            identity: self.identity.clone(),
            ..RespondActivityTaskCompletedRequest::default()
        };
        let done = self.client.call(|mut service| {
            let request = request.clone();
            async move { service.respond_activity_task_completed(request).await }
        });
        // Too late: the server gives it to somebody again.
        drop(done.await);
    }
}

/// Of the priorities beyond the last level, the server takes all as that level.
pub fn level(priority: u64) -> u64 {
    const LAST: u64 = 5;
    priority.min(LAST)
}

fn since(time: &prost_types::Timestamp) -> Duration {
    SystemTime::try_from(*time).ok().and_then(|then| then.elapsed().ok()).unwrap_or_default()
}
