//! Polls, and what a worker gets: history assembled, tokens sealed.

use bristlecone_machine::{reply, standalone};
use bristlecone_proto::chain::{
    ActivityStarted, ChainId, HistoryPageToken, Poll, WorkflowTaskStarted, WorkflowTaskToken, input,
    reply::Kind as ReplyKind,
};
use bristlecone_proto::node::{EventPage, QueryDelivery, QueueKey, TaskKind, WorkflowDelivery, deliver};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::{ActivityType, WorkflowExecution};
use bristlecone_proto::temporal::api::enums::v1::TaskQueueKind;
use bristlecone_proto::temporal::api::history::v1::{History, HistoryEvent};
use bristlecone_proto::temporal::api::taskqueue::v1::{PollerScalingDecision, TaskQueue};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    PollActivityTaskQueueResponse, PollWorkflowTaskQueueResponse, RespondWorkflowTaskCompletedRequest,
    RespondWorkflowTaskCompletedResponse, StartWorkflowExecutionRequest, StartWorkflowExecutionResponse,
};
use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

use super::{Cluster, Result, nonsense};
use crate::queue::Delivered;

/// Events of the first page of a workflow task.
const PAGE_EVENTS: u32 = 256;

impl Cluster {
    /// Parks a poll until a task is handed to it or the deadline; `None`: nothing came. Dropping the
    /// future ends the poll.
    pub async fn poll_workflow_task(
        &self,
        namespace: &record::Namespace,
        poll: Poll,
        deadline: Instant,
    ) -> Result<Option<PollWorkflowTaskQueueResponse>> {
        let Some(delivered) = self.poll(namespace, TaskKind::Workflow, poll, deadline).await else { return Ok(None) };
        match delivered.task {
            deliver::Task::Workflow(delivery) => {
                let task = self.workflow_task(namespace, *delivery)?;
                Ok(Some(PollWorkflowTaskQueueResponse {
                    backlog_count_hint: delivered.backlog_count_hint,
                    poller_scaling_decision: scaling(delivered.poller_delta),
                    ..task
                }))
            }
            deliver::Task::Query(delivery) => self.query_task(namespace, delivery).map(Some),
            deliver::Task::Activity(_) => Ok(None),
        }
    }

    pub async fn poll_activity_task(
        &self,
        namespace: &record::Namespace,
        poll: Poll,
        deadline: Instant,
    ) -> Result<Option<PollActivityTaskQueueResponse>> {
        let Some(delivered) = self.poll(namespace, TaskKind::Activity, poll, deadline).await else { return Ok(None) };
        match delivered.task {
            deliver::Task::Activity(started) => Ok(Some(PollActivityTaskQueueResponse {
                poller_scaling_decision: scaling(delivered.poller_delta),
                ..self.activity_task(*started)
            })),
            deliver::Task::Workflow(_) | deliver::Task::Query(_) => Ok(None),
        }
    }

    /// Waits; there are no Nexus tasks to hand out.
    pub async fn poll_nexus_task(&self, namespace: &record::Namespace, poll: Poll, deadline: Instant) -> Result<()> {
        self.poll(namespace, TaskKind::Nexus, poll, deadline).await;
        Ok(())
    }

    async fn poll(
        &self,
        namespace: &record::Namespace,
        kind: TaskKind,
        mut poll: Poll,
        deadline: Instant,
    ) -> Option<Delivered> {
        poll.request_id = self.new_id();
        let name = poll.queue.as_ref().map(|queue| queue.name.clone()).unwrap_or_default();
        let queue = QueueKey { namespace_id: namespace.id.clone(), name, kind: kind.into() };
        self.inner.queues.park(queue, poll, deadline).wait().await
    }

    /// `RespondWorkflowTaskCompleted`, with the next task and eager activities when there are some.
    ///
    /// # Errors
    /// The worker's mistake, after the task was failed for it.
    pub async fn complete_workflow_task(
        &self,
        chain: &ChainId,
        token: WorkflowTaskToken,
        request: RespondWorkflowTaskCompletedRequest,
        deadline: Instant,
    ) -> Result<RespondWorkflowTaskCompletedResponse> {
        let complete =
            bristlecone_proto::chain::CompleteWorkflowTask { token: Some(token), request: Some(request.into()) };
        let completed = match self.call(chain, input::Kind::CompleteWorkflowTask(complete), deadline).await? {
            ReplyKind::WorkflowTaskCompleted(completed) => completed,
            other => return Err(nonsense(&other)),
        };
        if let Some(failed) = completed.failed {
            return Err(failed);
        }
        let workflow_task = match completed.next {
            Some(started) => Some(self.workflow_task_with_events(chain, started, deadline).await?),
            None => None,
        };
        Ok(RespondWorkflowTaskCompletedResponse {
            workflow_task,
            activity_tasks: completed.eager_activities.into_iter().map(|started| self.activity_task(started)).collect(),
            reset_history_event_id: completed.reset_history_event_id,
        })
    }

    /// `StartWorkflowExecution`; an eager workflow task comes with its history.
    pub async fn start_workflow(
        &self,
        chain: &ChainId,
        request: StartWorkflowExecutionRequest,
        deadline: Instant,
    ) -> Result<StartWorkflowExecutionResponse> {
        match self.call(chain, input::Kind::Start(request.into()), deadline).await? {
            ReplyKind::Start(mut response) => {
                // The core knows what the token says; only the edge can seal it.
                if let Some(task) = &mut response.eager_workflow_task {
                    let token = WorkflowTaskToken::decode(task.task_token.clone()).map_err(|error| damaged(&error))?;
                    task.task_token = self.inner.tokens.seal(&token);
                }
                Ok(*response)
            }
            other => Err(nonsense(&other)),
        }
    }

    async fn workflow_task_with_events(
        &self,
        chain: &ChainId,
        started: WorkflowTaskStarted,
        deadline: Instant,
    ) -> Result<PollWorkflowTaskQueueResponse> {
        let run_id = started.token.as_ref().map(|token| token.run_id.clone()).unwrap_or_default();
        let (first, end) = (started.first_event_id, started.next_event_id);
        let events = self.read_events(chain, &run_id, first, end, PAGE_EVENTS, false, deadline).await?;
        let delivery =
            WorkflowDelivery { started: Some(started.into()), events: Some(events), ..WorkflowDelivery::default() };
        self.assemble(chain, delivery)
    }

    fn workflow_task(
        &self,
        namespace: &record::Namespace,
        delivery: WorkflowDelivery,
    ) -> Result<PollWorkflowTaskQueueResponse> {
        let token = delivery.started.as_ref().and_then(|started| started.token.as_ref());
        let chain = ChainId {
            namespace_id: namespace.id.clone(),
            workflow_id: token.map(|token| token.workflow_id.clone()).unwrap_or_default(),
            namespace: namespace.name.clone(),
        };
        self.assemble(&chain, delivery)
    }

    fn assemble(&self, chain: &ChainId, delivery: WorkflowDelivery) -> Result<PollWorkflowTaskQueueResponse> {
        let started = delivery.started.unwrap_or_default();
        let token = started.token.unwrap_or_default();
        let page = delivery.events.unwrap_or_default();
        let (history, next_page_token) = self.first_page(
            chain,
            &token.run_id,
            (started.first_event_id, started.next_event_id),
            page,
            started.virtual_events,
        )?;
        Ok(PollWorkflowTaskQueueResponse {
            task_token: self.inner.tokens.seal(&token),
            workflow_execution: Some(WorkflowExecution { workflow_id: token.workflow_id, run_id: token.run_id }),
            workflow_type: started.workflow_type,
            previous_started_event_id: started.previous_started_event_id,
            started_event_id: started.started_event_id,
            attempt: started.attempt,
            history: Some(history),
            next_page_token,
            workflow_execution_task_queue: Some(normal_queue(started.task_queue)),
            scheduled_time: started.scheduled_time,
            started_time: started.started_time,
            queries: delivery.queries,
            messages: started.messages,
            ..PollWorkflowTaskQueueResponse::default()
        })
    }

    fn query_task(
        &self,
        namespace: &record::Namespace,
        delivery: QueryDelivery,
    ) -> Result<PollWorkflowTaskQueueResponse> {
        let token = delivery.token.unwrap_or_default();
        let chain = ChainId {
            namespace_id: namespace.id.clone(),
            workflow_id: token.workflow_id.clone(),
            namespace: namespace.name.clone(),
        };
        let page = delivery.events.unwrap_or_default();
        let (history, next_page_token) =
            self.first_page(&chain, &delivery.run_id, (1, delivery.next_event_id), page, Vec::new())?;
        Ok(PollWorkflowTaskQueueResponse {
            task_token: self.inner.tokens.seal(&token),
            workflow_execution: Some(WorkflowExecution { workflow_id: token.workflow_id, run_id: delivery.run_id }),
            workflow_type: delivery.workflow_type,
            previous_started_event_id: delivery.previous_started_event_id,
            attempt: 1,
            history: Some(history),
            next_page_token,
            query: delivery.query,
            workflow_execution_task_queue: Some(normal_queue(delivery.task_queue)),
            ..PollWorkflowTaskQueueResponse::default()
        })
    }

    /// The events of a page from `first` on, with the virtual ones at its end when nothing is left; else
    /// the token with which the worker gets the rest.
    fn first_page(
        &self,
        chain: &ChainId,
        run_id: &str,
        (first, end): (i64, i64),
        page: EventPage,
        virtual_events: Vec<HistoryEvent>,
    ) -> Result<(History, Bytes)> {
        let mut events = Vec::new();
        for batch in page.batches {
            let batch = History::decode(batch).map_err(|error| damaged(&error))?;
            events.extend(batch.events.into_iter().filter(|event| first <= event.event_id && event.event_id < end));
        }
        if page.next_event_id == 0 {
            events.extend(virtual_events);
            return Ok((History { events }, Bytes::new()));
        }
        let token = HistoryPageToken {
            run_id: run_id.to_string(),
            next_event_id: page.next_event_id,
            end_event_id: end,
            running: false,
            namespace_id: chain.namespace_id.clone(),
            workflow_id: chain.workflow_id.clone(),
            virtual_events,
        };
        Ok((History { events }, self.inner.tokens.seal(&token)))
    }

    fn activity_task(&self, started: ActivityStarted) -> PollActivityTaskQueueResponse {
        let token = started.token.unwrap_or_default();
        let scheduled = started.scheduled.unwrap_or_default();
        // A standalone activity has a run and no workflow.
        let (workflow_execution, activity_run_id) = match standalone::activity_id(&token.workflow_id) {
            Some(_) => (None, token.run_id.clone()),
            None => {
                let run = WorkflowExecution { workflow_id: token.workflow_id.clone(), run_id: token.run_id.clone() };
                (Some(run), String::new())
            }
        };
        PollActivityTaskQueueResponse {
            task_token: self.inner.tokens.seal(&token),
            workflow_namespace: started.workflow_namespace,
            workflow_type: started.workflow_type,
            workflow_execution,
            activity_run_id,
            activity_type: scheduled.activity_type.or(Some(ActivityType { name: token.activity_type })),
            activity_id: token.activity_id,
            header: scheduled.header,
            input: scheduled.input,
            heartbeat_details: started.heartbeat_details,
            scheduled_time: started.scheduled_time,
            current_attempt_scheduled_time: started.current_attempt_scheduled_time,
            started_time: started.started_time,
            attempt: started.attempt,
            schedule_to_close_timeout: started.schedule_to_close_timeout,
            start_to_close_timeout: started.start_to_close_timeout,
            heartbeat_timeout: started.heartbeat_timeout,
            retry_policy: started.retry_policy,
            priority: started.priority,
            ..PollActivityTaskQueueResponse::default()
        }
    }
}

/// What the broker thinks of the number of the worker's polls.
fn scaling(poller_delta: i32) -> Option<PollerScalingDecision> {
    (poller_delta != 0).then_some(PollerScalingDecision { poll_request_delta_suggestion: poller_delta })
}

fn normal_queue(name: String) -> TaskQueue {
    TaskQueue { name, kind: TaskQueueKind::Normal.into(), ..TaskQueue::default() }
}

fn damaged(error: &prost::DecodeError) -> bristlecone_proto::chain::Rejection {
    tracing::error!(%error, "a batch of events cannot be decoded");
    reply::plain(reply::code::INTERNAL, "a batch of events cannot be decoded")
}
