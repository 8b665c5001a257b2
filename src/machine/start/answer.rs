//! The answers to a start.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use bristlecone_proto::chain::{Reply, reply};
use bristlecone_proto::temporal::api::common::v1::link::workflow_event::{
    EventReference, Reference, RequestIdReference,
};
use bristlecone_proto::temporal::api::common::v1::{Link, WorkflowExecution, link};
use bristlecone_proto::temporal::api::enums::v1::{EventType, WorkflowExecutionStatus};
use bristlecone_proto::temporal::api::history::v1::{History, HistoryEvent};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    PollWorkflowTaskQueueResponse, StartWorkflowExecutionRequest, StartWorkflowExecutionResponse,
};
use prost::Message;

use crate::chain::Run;
use crate::draft::Draft;
use crate::fold;
use crate::workflow_task::answer as task_answer;

/// A run was started; `eager`: the events of its first workflow task, which goes with the answer. The
/// token in it is the encoded `chain.v1.WorkflowTaskToken`, for the service to seal.
pub fn started(draft: &Draft<'_>, run_id: &str, eager: Option<Vec<HistoryEvent>>) -> Reply {
    let run = draft.run(run_id);
    of(StartWorkflowExecutionResponse {
        run_id: run_id.to_string(),
        first_execution_run_id: run.started.first_execution_run_id.clone(),
        started: true,
        status: WorkflowExecutionStatus::Running.into(),
        eager_workflow_task: eager.and_then(|events| eager_task(draft, run, events)),
        link: Some(to_first_event(draft, run_id)),
    })
}

/// The request started the current run earlier. Its first workflow task is given out again while the
/// worker that asked for it may still have it.
pub fn started_before(draft: &Draft<'_>, request: &StartWorkflowExecutionRequest) -> Reply {
    let (run_id, first_run_id, status) = current(draft);
    let run = draft.get(&run_id).filter(|_| request.request_eager_execution);
    let eager = run.and_then(|run| eager_task(draft, run, first_events(run)?));
    of(StartWorkflowExecutionResponse {
        link: Some(to_first_event(draft, &run_id)),
        first_execution_run_id: first_run_id,
        run_id,
        started: true,
        status,
        eager_workflow_task: eager,
    })
}

/// The request is, or was, attached to the current run.
pub fn attached(draft: &Draft<'_>, request: &StartWorkflowExecutionRequest) -> Reply {
    let (run_id, first_run_id, status) = current(draft);
    let reference = Reference::RequestIdRef(RequestIdReference {
        request_id: request.request_id.clone(),
        event_type: EventType::WorkflowExecutionOptionsUpdated.into(),
    });
    of(StartWorkflowExecutionResponse {
        link: Some(to_event(draft, &run_id, reference)),
        first_execution_run_id: first_run_id,
        run_id,
        started: false,
        status,
        eager_workflow_task: None,
    })
}

/// The open run is what the caller gets.
pub fn existing(draft: &Draft<'_>, run_id: &str) -> StartWorkflowExecutionResponse {
    StartWorkflowExecutionResponse {
        run_id: run_id.to_string(),
        first_execution_run_id: draft.run(run_id).started.first_execution_run_id.clone(),
        started: false,
        status: WorkflowExecutionStatus::Running.into(),
        eager_workflow_task: None,
        link: Some(to_first_event(draft, run_id)),
    }
}

/// A run was started, and its first workflow task goes to whoever polls.
pub fn newly_started(draft: &Draft<'_>, run_id: &str) -> StartWorkflowExecutionResponse {
    StartWorkflowExecutionResponse { started: true, ..existing(draft, run_id) }
}

pub fn of(response: StartWorkflowExecutionResponse) -> Reply {
    crate::reply::of(reply::Kind::Start(response.into()))
}

/// Run id, first run id and status of the current run.
fn current(draft: &Draft<'_>) -> (String, String, i32) {
    draft
        .record()
        .map(|record| (record.current_run_id.clone(), record.first_run_id.clone(), record.current_status))
        .unwrap_or_default()
}

fn to_first_event(draft: &Draft<'_>, run_id: &str) -> Link {
    let event_type = EventType::WorkflowExecutionStarted.into();
    to_event(draft, run_id, Reference::EventRef(EventReference { event_id: 1, event_type }))
}

fn to_event(draft: &Draft<'_>, run_id: &str, reference: Reference) -> Link {
    let event = link::WorkflowEvent {
        namespace: draft.at().namespace.name.clone(),
        workflow_id: draft.id().workflow_id.clone(),
        run_id: run_id.to_string(),
        reference: Some(reference),
    };
    Link { variant: Some(link::Variant::WorkflowEvent(event)) }
}

/// The three events of an eager start, while its workflow task is in the worker's hands.
fn first_events(run: &Run) -> Option<Vec<HistoryEvent>> {
    const STARTED: i64 = 3;
    let task = run.head.workflow_task.as_ref()?;
    if task.started_event_id != STARTED || task.attempt > 1 {
        return None;
    }
    let started = task.started_event.clone()?;
    Some(vec![fold::start::first_event(run), task_answer::scheduled_event(task), started])
}

fn eager_task(draft: &Draft<'_>, run: &Run, events: Vec<HistoryEvent>) -> Option<PollWorkflowTaskQueueResponse> {
    let started = task_answer::of_hard_start(draft.id(), run)?;
    let queue = run.head.workflow_task.as_ref()?.queue.clone();
    let id = draft.id();
    Some(PollWorkflowTaskQueueResponse {
        task_token: started.token?.encode_to_vec().into(),
        workflow_execution: Some(WorkflowExecution { workflow_id: id.workflow_id.clone(), run_id: run.id.clone() }),
        workflow_type: run.started.workflow_type.clone(),
        started_event_id: started.started_event_id,
        attempt: started.attempt,
        history: Some(History { events }),
        workflow_execution_task_queue: queue,
        scheduled_time: started.scheduled_time,
        started_time: started.started_time,
        ..PollWorkflowTaskQueueResponse::default()
    })
}
