//! Inputs that make no sense: empty messages, and messages that name a run and nothing else.

use bristlecone_proto::chain::input::Kind;
use bristlecone_proto::chain::{
    ActivityRef, Answer, AwaitChild, CancelActivity, CancelExternal, ChildClosed, CompleteActivity,
    CompleteWorkflowTask, FailActivity, FailWorkflowTask, Forget, Harden, HeartbeatActivity, HistoryHead, ParentClosed,
    ParentRecorded, Poll, RunRef, SignalExternal, StartActivity, StartChild, StartWorkflowTask, StickyUnavailable,
    UndoActivityStart, UndoWorkflowTaskStart, WorkflowTaskToken,
};
use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    DescribeWorkflowExecutionRequest, PauseActivityRequest, PauseWorkflowExecutionRequest, QueryWorkflowRequest,
    RequestCancelWorkflowExecutionRequest, ResetActivityRequest, ResetStickyTaskQueueRequest,
    SignalWorkflowExecutionRequest, TerminateWorkflowExecutionRequest, UnpauseActivityRequest,
    UnpauseWorkflowExecutionRequest, UpdateActivityOptionsRequest, UpdateWorkflowExecutionOptionsRequest,
};

pub fn input(kind: u8, run_id: &str) -> Kind {
    let run = || run_id.to_string();
    let wrong = || WorkflowExecution { run_id: "no uuid".into(), ..WorkflowExecution::default() };
    let execution = || Some(WorkflowExecution { run_id: run(), ..WorkflowExecution::default() });
    let activity = || Some(ActivityRef { run_id: run(), by_id: run_id.is_empty(), ..ActivityRef::default() });
    let token = || Some(WorkflowTaskToken { run_id: run(), attempt: 1, ..WorkflowTaskToken::default() });
    let sender = || Some(RunRef { chain: None, run_id: run() });
    match kind {
        0 => Kind::Start(Default::default()),
        1 => Kind::SignalWithStart(Default::default()),
        2 => Kind::Signal(SignalWorkflowExecutionRequest { workflow_execution: execution(), ..Default::default() }),
        3 => Kind::Signal(SignalWorkflowExecutionRequest::default()),
        4 => Kind::RequestCancel(RequestCancelWorkflowExecutionRequest {
            workflow_execution: Some(wrong()),
            ..Default::default()
        }),
        5 => Kind::Terminate(TerminateWorkflowExecutionRequest {
            workflow_execution: Some(wrong()),
            ..Default::default()
        }),
        6 => Kind::Describe(DescribeWorkflowExecutionRequest { execution: execution(), ..Default::default() }),
        7 => Kind::ResetSticky(ResetStickyTaskQueueRequest::default()),
        8 => Kind::HistoryHead(HistoryHead { execution: execution(), with_virtual_events: true }),
        9 => Kind::Query(QueryWorkflowRequest { execution: execution(), ..Default::default() }),
        10 => Kind::CompleteWorkflowTask(CompleteWorkflowTask::default()),
        11 => Kind::CompleteWorkflowTask(CompleteWorkflowTask { token: token(), request: Some(Default::default()) }),
        12 => Kind::FailWorkflowTask(FailWorkflowTask { token: token(), request: Some(Default::default()) }),
        13 => Kind::FailWorkflowTask(FailWorkflowTask::default()),
        14 => Kind::CompleteActivity(CompleteActivity { activity: activity(), ..Default::default() }),
        15 => Kind::CompleteActivity(CompleteActivity::default()),
        16 => Kind::FailActivity(FailActivity { activity: activity(), ..Default::default() }),
        17 => Kind::CancelActivity(CancelActivity { activity: activity(), ..Default::default() }),
        18 => Kind::HeartbeatActivity(HeartbeatActivity { activity: activity(), ..Default::default() }),
        19 => Kind::StartWorkflowTask(StartWorkflowTask { run_id: run(), ..Default::default() }),
        20 => Kind::StartWorkflowTask(StartWorkflowTask {
            run_id: run(),
            poll: Some(Poll::default()),
            ..Default::default()
        }),
        21 => Kind::StartActivity(StartActivity { run_id: run(), ..Default::default() }),
        22 => Kind::StartActivity(StartActivity { run_id: run(), poll: Some(Poll::default()), ..Default::default() }),
        23 => Kind::UndoWorkflowTaskStart(UndoWorkflowTaskStart { run_id: run(), ..Default::default() }),
        24 => Kind::UndoActivityStart(UndoActivityStart { run_id: run(), ..Default::default() }),
        25 => Kind::StickyUnavailable(StickyUnavailable { run_id: run(), ..Default::default() }),
        26 => Kind::StartChild(Default::default()),
        27 => {
            let attributes = Some(Default::default());
            Kind::StartChild(StartChild { parent: sender(), attributes, ..Default::default() }.into())
        }
        28 => Kind::ParentRecorded(ParentRecorded::default()),
        29 => Kind::ChildClosed(ChildClosed { parent_run_id: run(), ..Default::default() }),
        30 => Kind::ParentClosed(ParentClosed { parent: sender(), ..Default::default() }),
        44 => Kind::AwaitChild(AwaitChild { parent: sender(), ..Default::default() }),
        31 => Kind::SignalExternal(SignalExternal { sender: sender(), run_id: run(), ..Default::default() }),
        32 => Kind::CancelExternal(CancelExternal { sender: sender(), run_id: run(), ..Default::default() }),
        33 => Kind::Answer(Answer { sequence: 1, run_id: run(), reply: None }),
        34 => Kind::Forget(Forget::default()),
        35 => Kind::Harden(Harden { run_id: "no uuid".into() }),
        36 => Kind::Release(Default::default()),
        37 => Kind::Delete(Default::default()),
        38 => Kind::PauseActivity(PauseActivityRequest { execution: execution(), ..Default::default() }),
        39 => Kind::UnpauseActivity(UnpauseActivityRequest { execution: execution(), ..Default::default() }),
        40 => Kind::ResetActivity(ResetActivityRequest { execution: execution(), ..Default::default() }),
        41 => {
            Kind::UpdateActivityOptions(UpdateActivityOptionsRequest { execution: execution(), ..Default::default() })
        }
        45 => Kind::PauseWorkflow(PauseWorkflowExecutionRequest { run_id: run(), ..Default::default() }),
        46 => Kind::UnpauseWorkflow(UnpauseWorkflowExecutionRequest { run_id: run(), ..Default::default() }),
        47 => Kind::UpdateWorkflowOptions(UpdateWorkflowExecutionOptionsRequest {
            workflow_execution: execution(),
            ..Default::default()
        }),
        _ => Kind::Wake(Default::default()),
    }
}
