//! Child workflows: what passes between the chains of a parent and of its child.
//!
//! # Contract
//! ```text
//! parent                                   child
//! Initiated ── StartChild ───────────────► a run without its first workflow task
//! Started or StartChild…Failed ◄── answer ──
//!             ── ParentRecorded ─────────► the first workflow task
//! ChildWorkflow… ◄── ChildClosed ───────── its last run closes
//! any close   ── ParentClosed ───────────► terminated, or asked to cancel
//! reset of a closed run ── AwaitChild ───► nothing, while it is open: its end will be told
//! ChildWorkflow…Failed ◄── answer ──────── when it closed while nobody listened
//! ```
//! | child closes before its start is recorded | the parent records Started, then the end |
//! | parent closes in the step that initiates | the message is never sent, nothing is started |
//! | parent closes while the message is under way | the child obeys its policy; an abandoned one goes on |
//! | parent is closed or gone when the child closes | nothing happens |
//!
//! # Used by
//! `lib.rs`, `outbox.rs` (answers), `close.rs`.

use alloc::string::String;
use alloc::vec::Vec;

use bristlecone_proto::chain::{
    AwaitChild, ChainId, ChildClosed, ChildStarted, Input, ParentClosed, ParentRecorded, Rejection, RunRef, StartChild,
    input, reply::Kind as ReplyKind,
};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::{Header, WorkflowExecution, WorkflowType};
use bristlecone_proto::temporal::api::enums::v1::{
    EventType, ParentClosePolicy, RetryState, StartChildWorkflowExecutionFailedCause as FailedCause,
    WorkflowIdConflictPolicy,
};
use bristlecone_proto::temporal::api::failure::v1::failure::FailureInfo;
use bristlecone_proto::temporal::api::failure::v1::{Failure, ServerFailureInfo};
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::history::v1::{
    ChildWorkflowExecutionCanceledEventAttributes, ChildWorkflowExecutionCompletedEventAttributes,
    ChildWorkflowExecutionFailedEventAttributes, ChildWorkflowExecutionStartedEventAttributes,
    ChildWorkflowExecutionTerminatedEventAttributes, ChildWorkflowExecutionTimedOutEventAttributes,
    StartChildWorkflowExecutionFailedEventAttributes, StartChildWorkflowExecutionInitiatedEventAttributes,
    WorkflowExecutionFailedEventAttributes,
};
use bristlecone_proto::temporal::api::workflowservice::v1::StartWorkflowExecutionRequest;

use crate::cancel::{self, Cancel};
use crate::chain::Run;
use crate::draft::Draft;
use crate::start::policy::{self, Decision};
use crate::terminate::{self, Terminate};
use crate::{Step, new_run, outbox, reply, start};

const SERVER: &str = "history-service";

// ---------------------------------------------------------------- on the child's side

/// Starts the run that a parent asks for, without its first workflow task.
pub(crate) fn start_child(mut draft: Draft<'_>, input: &StartChild) -> Step {
    let (Some(parent), Some(child)) = (&input.parent, &input.attributes) else {
        return draft.reject(reply::invalid_argument("Request is nil."));
    };
    let request = match start::checked(&draft, &request(input, child), WorkflowIdConflictPolicy::Fail) {
        Ok(request) => request,
        Err(rejection) => return draft.reject(rejection),
    };
    let repeated = draft.record().filter(|record| {
        let info = record.request_ids.get(&request.request_id);
        info.is_some_and(|info| info.event_type == EventType::WorkflowExecutionStarted as i32)
    });
    if let Some(record) = repeated {
        let answer = ChildStarted { run_id: record.current_run_id.clone(), first_run_id: record.first_run_id.clone() };
        return draft.unchanged(reply::of(ReplyKind::ChildStarted(answer)));
    }
    match policy::decide(&draft, request.workflow_id_reuse_policy(), request.workflow_id_conflict_policy()) {
        Ok(Decision::Create) => {}
        Ok(Decision::TerminateExisting(existing)) => {
            let run_id = draft.new_run_id();
            start::terminate_existing(&mut draft, &existing, &run_id);
            return create(draft, input, parent, request, run_id);
        }
        // A child never joins a run that is there already.
        Ok(Decision::UseExisting(existing)) => {
            let message = "Workflow execution is already running.";
            return draft.reject(reply::already_started(message, "", &existing, ""));
        }
        Err(rejection) => return draft.reject(rejection),
    }
    let run_id = draft.new_run_id();
    create(draft, input, parent, request, run_id)
}

fn create(
    mut draft: Draft<'_>,
    input: &StartChild,
    parent: &RunRef,
    request: StartWorkflowExecutionRequest,
    run_id: String,
) -> Step {
    let backoff = start::first_backoff(&draft, &request);
    let mut new = start::new_run(&draft, request, run_id.clone(), backoff, false);
    let of = parent.chain.clone().unwrap_or_default();
    new.attributes.parent_workflow_namespace = of.namespace;
    new.attributes.parent_workflow_namespace_id = of.namespace_id;
    new.attributes.parent_workflow_execution =
        Some(WorkflowExecution { workflow_id: of.workflow_id, run_id: parent.run_id.clone() });
    new.attributes.parent_initiated_event_id = input.initiated_event_id;
    new.attributes.root_workflow_execution.clone_from(&input.root);
    draft.create_run(new);
    draft.run_mut(&run_id).head.awaits_parent = true;
    let answer = ChildStarted { run_id: run_id.clone(), first_run_id: run_id };
    draft.finish(reply::of(ReplyKind::ChildStarted(answer)))
}

fn request(
    input: &StartChild,
    child: &StartChildWorkflowExecutionInitiatedEventAttributes,
) -> StartWorkflowExecutionRequest {
    StartWorkflowExecutionRequest {
        namespace: child.namespace.clone(),
        workflow_id: child.workflow_id.clone(),
        workflow_type: child.workflow_type.clone(),
        task_queue: child.task_queue.clone(),
        input: child.input.clone(),
        workflow_execution_timeout: child.workflow_execution_timeout,
        workflow_run_timeout: child.workflow_run_timeout,
        workflow_task_timeout: child.workflow_task_timeout,
        request_id: input.request_id.clone(),
        workflow_id_reuse_policy: child.workflow_id_reuse_policy,
        retry_policy: child.retry_policy.clone(),
        cron_schedule: child.cron_schedule.clone(),
        memo: child.memo.clone(),
        search_attributes: child.search_attributes.clone(),
        header: child.header.clone(),
        user_metadata: input.user_metadata.clone(),
        versioning_override: child.versioning_override.clone(),
        priority: input.priority.clone(),
        ..StartWorkflowExecutionRequest::default()
    }
}

/// The parent's history tells that this run started: now the workflow may begin.
pub(crate) fn parent_recorded(mut draft: Draft<'_>, input: &ParentRecorded) -> Step {
    let run_id = &input.run_id;
    if !draft.get(run_id).is_some_and(|run| run.is_running() && run.head.awaits_parent) {
        return draft.unchanged(reply::done());
    }
    draft.begin_transition(run_id);
    draft.run_mut(run_id).head.awaits_parent = false;
    new_run::first_task(&mut draft, run_id);
    draft.finish(reply::done())
}

/// The parent closed: the current run of the chain that it started does what its policy says.
pub(crate) fn parent_closed(mut draft: Draft<'_>, input: &ParentClosed) -> Step {
    let Some(parent) = &input.parent else { return draft.unchanged(reply::done()) };
    let child = draft.find_run("").ok().filter(|run_id| {
        let run = draft.run(run_id);
        let of_parent = is_parent(run, parent) || is_parent_after_reset(run, input);
        run.is_running() && of_parent && draft.belongs_to_chain(run_id, &input.first_run_id)
    });
    let Some(run_id) = child else { return draft.unchanged(reply::done()) };
    match input.policy() {
        ParentClosePolicy::Abandon => draft.unchanged(reply::done()),
        ParentClosePolicy::RequestCancel => {
            let head = &draft.run(&run_id).head;
            let (requested, awaits_parent) = (head.cancel_requested, head.awaits_parent);
            if requested && !awaits_parent {
                return draft.unchanged(reply::done());
            }
            if requested {
                draft.begin_transition(&run_id);
                draft.schedule_workflow_task(&run_id);
            } else {
                let workflow_id = parent.chain.as_ref().map(|chain| chain.workflow_id.clone()).unwrap_or_default();
                let sender = WorkflowExecution { workflow_id, run_id: parent.run_id.clone() };
                let cancel =
                    Cancel { reason: "", identity: SERVER, request_id: "", links: &[], sender: Some((&sender, 0)) };
                cancel::deliver(&mut draft, &run_id, &cancel);
            }
            // No parent will let it begin any more: a paused one begins when it goes on.
            draft.run_mut(&run_id).head.awaits_parent = false;
            draft.finish(reply::done())
        }
        ParentClosePolicy::Unspecified | ParentClosePolicy::Terminate => {
            let reason = "by parent close policy";
            terminate::run(&mut draft, &run_id, Terminate { reason, details: None, identity: SERVER, links: &[] });
            draft.finish(reply::done())
        }
    }
}

/// Whether the run was started by this run of another workflow.
pub(crate) fn is_parent(run: &Run, sender: &RunRef) -> bool {
    let Some(parent) = &run.started.parent_workflow_execution else { return false };
    let chain = sender.chain.as_ref();
    chain.is_some_and(|chain| chain.workflow_id == parent.workflow_id) && sender.run_id == parent.run_id
}

/// A run that began as a reset is the parent of children that it names by their first runs, or, when it has
/// not heard of their start, by what initiated them.
fn is_parent_after_reset(run: &Run, input: &ParentClosed) -> bool {
    let named = !input.first_run_id.is_empty() || run.started.parent_initiated_event_id == input.initiated_event_id;
    named && input.parent.as_ref().is_some_and(|sender| is_child_of(run, sender))
}

/// Whether a run of the sender's workflow started the run.
fn is_child_of(run: &Run, sender: &RunRef) -> bool {
    let parent = run.started.parent_workflow_execution.as_ref();
    parent.zip(sender.chain.as_ref()).is_some_and(|(parent, chain)| chain.workflow_id == parent.workflow_id)
}

/// A run that began as a reset of a closed one waits for a child of that. It will hear of the child's end,
/// unless that has been.
pub(crate) fn await_child(draft: Draft<'_>, input: &AwaitChild) -> Step {
    let Some(parent) = &input.parent else { return draft.unchanged(reply::done()) };
    let first_run_id = &input.first_run_id;
    let open = draft.chain().current().filter(|run| run.is_running());
    if open.is_some_and(|run| is_child_of(run, parent) && draft.belongs_to_chain(&run.id, first_run_id)) {
        return draft.unchanged(reply::done());
    }
    let is_told = draft.chain().sends.iter().any(|(_, send)| {
        let kind = send.input.as_ref().and_then(|input| input.kind.as_ref());
        matches!(kind, Some(input::Kind::ChildClosed(message)) if message.first_run_id == *first_run_id)
    });
    if is_told {
        return draft.reject(reply::plain(reply::code::ABORTED, "the child's end is on its way to its parent"));
    }
    draft.reject(reply::not_found("the child workflow closed before its parent was reset"))
}

// ---------------------------------------------------------------- on the parent's side

/// The child's chain answered: the child started, or it never will.
pub(crate) fn answered(
    draft: &mut Draft<'_>,
    run_id: &str,
    message: &StartChild,
    target: &ChainId,
    answer: &Result<ReplyKind, Rejection>,
) {
    let id = message.initiated_event_id;
    let waits_now = after_reset(draft, run_id, id);
    let run_id = waits_now.as_deref().unwrap_or(run_id);
    // The run may be closed, or even removed, by now.
    let run = draft.get(run_id).filter(|run| run.is_running());
    let is_running = run.is_some();
    let child = run.and_then(|run| run.children.get(&id)).cloned();
    match (answer, child) {
        (Ok(ReplyKind::ChildStarted(started)), Some(child)) if child.started_event_id == 0 => {
            draft.begin_transition(run_id);
            let header = message.attributes.as_ref().and_then(|attributes| attributes.header.clone());
            add_started(draft, run_id, &child, &started.run_id, header);
            draft.schedule_workflow_task(run_id);
            tell_recorded(draft, run_id, target, id, &started.run_id);
        }
        (Ok(ReplyKind::ChildStarted(started)), None) if !is_running => {
            // It would wait for ever. Any other policy has its own message under way.
            let policy = message
                .attributes
                .as_ref()
                .map(StartChildWorkflowExecutionInitiatedEventAttributes::parent_close_policy);
            if policy == Some(ParentClosePolicy::Abandon) {
                tell_recorded(draft, run_id, target, id, &started.run_id);
            }
        }
        (Err(rejection), Some(child)) if child.started_event_id == 0 => {
            draft.begin_transition(run_id);
            add_failed(draft, run_id, &child, message, rejection);
            draft.schedule_workflow_task(run_id);
        }
        // Closed meanwhile, as a message that overtook this answer told.
        _ => {}
    }
}

/// Asks after the children that the run knows as started, in the name of a run that began as a reset of a
/// closed one.
pub(crate) fn await_children(draft: &mut Draft<'_>, run_id: &str) {
    let started = draft.run(run_id).children.iter().filter(|(_, child)| child.started_event_id != 0);
    let children: Vec<record::Child> = started.map(|(_, child)| child.clone()).collect();
    for child in children {
        let parent = RunRef { chain: Some(draft.id().clone()), run_id: run_id.into() };
        let target =
            ChainId { namespace_id: child.namespace_id, workflow_id: child.workflow_id, namespace: child.namespace };
        let message = AwaitChild {
            parent: Some(parent),
            initiated_event_id: child.initiated_event_id,
            first_run_id: child.first_run_id,
        };
        draft.send(run_id, target, Input { kind: Some(input::Kind::AwaitChild(message)), ..Input::default() });
    }
}

/// The child's chain answered a run that began as a reset: a child that is not there has failed for it.
pub(crate) fn awaited(
    draft: &mut Draft<'_>,
    run_id: &str,
    message: &AwaitChild,
    answer: &Result<ReplyKind, Rejection>,
) {
    let Err(rejection) = answer else { return };
    let run_id = &waits_for(draft, message.initiated_event_id, &message.first_run_id).unwrap_or_else(|| run_id.into());
    let run = draft.get(run_id).filter(|run| run.is_running());
    let child = run.and_then(|run| run.children.get(&message.initiated_event_id)).cloned();
    let Some(child) = child.filter(|child| child.first_run_id == message.first_run_id) else { return };
    let execution = WorkflowExecution { workflow_id: child.workflow_id.clone(), run_id: child.run_id.clone() };
    let started_event_id = child.started_event_id.max(0);
    let end = Attributes::WorkflowExecutionFailedEventAttributes(WorkflowExecutionFailedEventAttributes {
        failure: Some(Failure {
            message: rejection.message.clone(),
            source: "Server".into(),
            failure_info: Some(FailureInfo::ServerFailureInfo(ServerFailureInfo { non_retryable: true })),
            ..Failure::default()
        }),
        retry_state: RetryState::NonRetryableFailure.into(),
        ..WorkflowExecutionFailedEventAttributes::default()
    });
    let Some(event) = (Ended { child: &child, execution: &execution, started_event_id }).event(&end) else { return };
    draft.begin_transition(run_id);
    draft.add(run_id, event);
    draft.schedule_workflow_task(run_id);
}

fn tell_recorded(draft: &mut Draft<'_>, run_id: &str, target: &ChainId, initiated_event_id: i64, child_run_id: &str) {
    let parent = RunRef { chain: Some(draft.id().clone()), run_id: run_id.into() };
    let message = ParentRecorded { parent: Some(parent), run_id: child_run_id.into(), initiated_event_id };
    let input = Input { kind: Some(input::Kind::ParentRecorded(message)), ..Input::default() };
    draft.send(run_id, target.clone(), input);
}

fn add_started(draft: &mut Draft<'_>, run_id: &str, child: &record::Child, child_run_id: &str, header: Option<Header>) {
    let attributes = ChildWorkflowExecutionStartedEventAttributes {
        namespace: child.namespace.clone(),
        namespace_id: child.namespace_id.clone(),
        initiated_event_id: child.initiated_event_id,
        workflow_execution: Some(WorkflowExecution {
            workflow_id: child.workflow_id.clone(),
            run_id: child_run_id.into(),
        }),
        workflow_type: workflow_type(child),
        header,
    };
    draft.add(run_id, Attributes::ChildWorkflowExecutionStartedEventAttributes(attributes));
}

fn add_failed(draft: &mut Draft<'_>, run_id: &str, child: &record::Child, message: &StartChild, rejection: &Rejection) {
    let cause = if outbox::is_namespace_not_found(rejection) {
        FailedCause::NamespaceNotFound
    } else {
        FailedCause::WorkflowAlreadyExists
    };
    let control = message.attributes.as_ref().map(|attributes| attributes.control.clone());
    let attributes = StartChildWorkflowExecutionFailedEventAttributes {
        namespace: child.namespace.clone(),
        namespace_id: child.namespace_id.clone(),
        workflow_id: child.workflow_id.clone(),
        workflow_type: workflow_type(child),
        cause: cause.into(),
        control: control.unwrap_or_default(),
        initiated_event_id: child.initiated_event_id,
        workflow_task_completed_event_id: 0,
    };
    draft.add(run_id, Attributes::StartChildWorkflowExecutionFailedEventAttributes(attributes));
}

/// A child came to its end. Its start is recorded first, when the answer to that is still under way.
pub(crate) fn child_closed(mut draft: Draft<'_>, input: &ChildClosed) -> Step {
    let id = input.initiated_event_id;
    let run_id = &parent_now(&draft, input);
    let child = draft.get(run_id).filter(|run| run.is_running()).and_then(|run| run.children.get(&id)).cloned();
    let (Some(child), Some(closed)) = (child, &input.child) else { return draft.unchanged(reply::done()) };
    let expected = child.first_run_id.is_empty() || child.first_run_id == input.first_run_id;
    let Some(end) = input.close_event.as_ref().and_then(|event| event.attributes.as_ref()) else {
        return draft.unchanged(reply::done());
    };
    if child.workflow_id != closed.workflow_id || !expected {
        return draft.unchanged(reply::done());
    }
    draft.begin_transition(run_id);
    if child.started_event_id == 0 {
        let header = outbox::start_child_of(&draft, run_id, id).and_then(|message| message.attributes);
        let header = header.and_then(|attributes| attributes.header);
        add_started(&mut draft, run_id, &child, &input.first_run_id, header);
    }
    let started_event_id = draft.run(run_id).children.get(&id).map_or(0, |child| child.started_event_id.max(0));
    let ended = Ended { child: &child, execution: closed, started_event_id };
    let Some(event) = ended.event(end) else { return draft.unchanged(reply::done()) };
    draft.add(run_id, event);
    draft.schedule_workflow_task(run_id);
    draft.finish(reply::done())
}

/// The run that waits for the child: the one that started it, or the one as which that began anew.
fn parent_now(draft: &Draft<'_>, input: &ChildClosed) -> String {
    let (run_id, id) = (&input.parent_run_id, input.initiated_event_id);
    let starting = || after_reset(draft, run_id, id).filter(|_| outbox::start_child_of(draft, run_id, id).is_some());
    waits_for(draft, id, &input.first_run_id).or_else(starting).unwrap_or_else(|| run_id.clone())
}

/// The current run, if it knows this very child as started. A first run's id is of one child only.
fn waits_for(draft: &Draft<'_>, initiated_event_id: i64, first_run_id: &str) -> Option<String> {
    let knows =
        |run: &&Run| run.children.get(&initiated_event_id).is_some_and(|child| child.first_run_id == first_run_id);
    draft.chain().current().filter(|_| !first_run_id.is_empty()).filter(knows).map(|run| run.id.clone())
}

/// The open run that waits for the answer to the start of a child that a run asked for which was reset
/// since. A run that asked by itself waits for its own answer.
fn after_reset(draft: &Draft<'_>, run_id: &str, initiated_event_id: i64) -> Option<String> {
    let waits = |run: &&Run| run.children.get(&initiated_event_id).is_some_and(|child| child.started_event_id == 0);
    let run = draft.chain().current().filter(|run| run.is_running() && was_reset(draft, run_id)).filter(waits)?;
    outbox::start_child_of(draft, &run.id, initiated_event_id).is_none().then(|| run.id.clone())
}

/// A run that is gone may have been.
fn was_reset(draft: &Draft<'_>, run_id: &str) -> bool {
    draft.get(run_id).is_none_or(|run| !run.is_running() && !run.head.reset_run_id.is_empty())
}

fn workflow_type(child: &record::Child) -> Option<WorkflowType> {
    Some(WorkflowType { name: child.workflow_type.clone() })
}

/// A child that ended: what the parent's events about it have in common.
struct Ended<'a> {
    child: &'a record::Child,
    execution: &'a WorkflowExecution,
    /// 0 while the started event waits in the buffer: the flush of the buffer fills it in.
    started_event_id: i64,
}

impl Ended<'_> {
    /// The parent's event for the child's close event; `None` for one that does not end a workflow.
    fn event(&self, end: &Attributes) -> Option<Attributes> {
        use Attributes as A;
        let namespace = self.child.namespace.clone();
        let namespace_id = self.child.namespace_id.clone();
        let workflow_execution = Some(self.execution.clone());
        let workflow_type = workflow_type(self.child);
        let (initiated_event_id, started_event_id) = (self.child.initiated_event_id, self.started_event_id);
        Some(match end {
            A::WorkflowExecutionCompletedEventAttributes(end) => {
                A::ChildWorkflowExecutionCompletedEventAttributes(ChildWorkflowExecutionCompletedEventAttributes {
                    result: end.result.clone(),
                    namespace,
                    namespace_id,
                    workflow_execution,
                    workflow_type,
                    initiated_event_id,
                    started_event_id,
                })
            }
            A::WorkflowExecutionFailedEventAttributes(end) => {
                A::ChildWorkflowExecutionFailedEventAttributes(ChildWorkflowExecutionFailedEventAttributes {
                    failure: end.failure.clone(),
                    retry_state: end.retry_state,
                    namespace,
                    namespace_id,
                    workflow_execution,
                    workflow_type,
                    initiated_event_id,
                    started_event_id,
                })
            }
            A::WorkflowExecutionCanceledEventAttributes(end) => {
                A::ChildWorkflowExecutionCanceledEventAttributes(ChildWorkflowExecutionCanceledEventAttributes {
                    details: end.details.clone(),
                    namespace,
                    namespace_id,
                    workflow_execution,
                    workflow_type,
                    initiated_event_id,
                    started_event_id,
                })
            }
            A::WorkflowExecutionTimedOutEventAttributes(end) => {
                A::ChildWorkflowExecutionTimedOutEventAttributes(ChildWorkflowExecutionTimedOutEventAttributes {
                    retry_state: end.retry_state,
                    namespace,
                    namespace_id,
                    workflow_execution,
                    workflow_type,
                    initiated_event_id,
                    started_event_id,
                })
            }
            A::WorkflowExecutionTerminatedEventAttributes(_) => {
                A::ChildWorkflowExecutionTerminatedEventAttributes(ChildWorkflowExecutionTerminatedEventAttributes {
                    namespace,
                    namespace_id,
                    workflow_execution,
                    workflow_type,
                    initiated_event_id,
                    started_event_id,
                })
            }
            _ => return None,
        })
    }
}
