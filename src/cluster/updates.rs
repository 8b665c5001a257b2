//! Updates and resets, as their callers see them: outcomes and histories are read where they stand.

use bristlecone_machine::reply;
use bristlecone_proto::chain::{
    ChainId, HistoryHead, Reset, RunHistory, UpdateStatus, UpdateWithStart, UpdateWithStartStatus, input,
    reply::Kind as ReplyKind,
};
use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::history::v1::History;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::update::v1::{Outcome, UpdateRef};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    ExecuteMultiOperationResponse, PollWorkflowExecutionUpdateRequest, PollWorkflowExecutionUpdateResponse,
    ResetWorkflowExecutionRequest, ResetWorkflowExecutionResponse, UpdateWorkflowExecutionRequest,
    UpdateWorkflowExecutionResponse, execute_multi_operation_response,
};
use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

use super::route::{LEADERLESS_MAX, unavailable};
use super::{Cluster, Result, nonsense};

/// Events that are read at once for a reset.
const PAGE_EVENTS: u32 = 1_000;
/// Histories that a reset reads again because they grew meanwhile.
const RESETS_MAX: u32 = 10;
/// Runs that a reset looks through for what is to be applied again.
const RUNS_MAX: usize = 100;
/// Histories that a reset takes with it: they go to the shard's leader in one message.
const HISTORIES_BYTES_MAX: usize = 48 << 20;

impl Cluster {
    /// `UpdateWorkflowExecution`: answered when the update has come as far as the caller wants, or after
    /// a while. The update id must be set: with it the request may be repeated.
    pub async fn update_workflow(
        &self,
        chain: &ChainId,
        request: UpdateWorkflowExecutionRequest,
        deadline: Instant,
    ) -> Result<UpdateWorkflowExecutionResponse> {
        let status = match self.call_waiting(chain, &input::Kind::Update(request), deadline).await? {
            ReplyKind::Update(status) => status,
            other => return Err(nonsense(&other)),
        };
        self.update_response(chain, status, deadline).await
    }

    pub async fn poll_update(
        &self,
        chain: &ChainId,
        request: PollWorkflowExecutionUpdateRequest,
        deadline: Instant,
    ) -> Result<PollWorkflowExecutionUpdateResponse> {
        let status = match self.call_waiting(chain, &input::Kind::PollUpdate(request), deadline).await? {
            ReplyKind::Update(status) => status,
            other => return Err(nonsense(&other)),
        };
        let UpdateWorkflowExecutionResponse { update_ref, outcome, stage, .. } =
            self.update_response(chain, status, deadline).await?;
        Ok(PollWorkflowExecutionUpdateResponse { outcome, stage, update_ref })
    }

    /// `ExecuteMultiOperation`: a start and an update in one step.
    pub async fn update_with_start(
        &self,
        chain: &ChainId,
        request: UpdateWithStart,
        deadline: Instant,
    ) -> Result<ExecuteMultiOperationResponse> {
        use execute_multi_operation_response::{Response, response};
        let (start, status) = match self.call_waiting(chain, &input::Kind::UpdateWithStart(request), deadline).await? {
            ReplyKind::UpdateWithStart(UpdateWithStartStatus { start: Some(start), update: Some(update) }) => {
                (start, update)
            }
            other => return Err(nonsense(&other)),
        };
        let update = self.update_response(chain, status, deadline).await?;
        let responses = [response::Response::StartWorkflow(start), response::Response::UpdateWorkflow(update)]
            .map(|r| Response { response: Some(r) });
        Ok(ExecuteMultiOperationResponse { responses: responses.into() })
    }

    /// A call that waits in the leader's memory: one that a leader took with it is asked of the next.
    async fn call_waiting(&self, chain: &ChainId, input: &input::Kind, deadline: Instant) -> Result<ReplyKind> {
        loop {
            let asked = Instant::now();
            match self.call(chain, input.clone(), deadline).await {
                Err(rejection)
                    if rejection.code == reply::code::UNAVAILABLE
                        && asked.elapsed() > LEADERLESS_MAX * 2
                        && Instant::now() < deadline => {}
                answered => return answered,
            }
        }
    }

    async fn update_response(
        &self,
        chain: &ChainId,
        status: UpdateStatus,
        deadline: Instant,
    ) -> Result<UpdateWorkflowExecutionResponse> {
        let outcome = match status.outcome {
            None if status.completed_event_id != 0 => {
                Some(self.read_outcome(chain, &status.run_id, status.completed_event_id, deadline).await?)
            }
            outcome => outcome,
        };
        let execution = WorkflowExecution { workflow_id: chain.workflow_id.clone(), run_id: status.run_id };
        Ok(UpdateWorkflowExecutionResponse {
            update_ref: Some(UpdateRef { workflow_execution: Some(execution), update_id: status.update_id }),
            outcome,
            stage: status.stage,
            ..UpdateWorkflowExecutionResponse::default()
        })
    }

    async fn read_outcome(&self, chain: &ChainId, run_id: &str, event_id: i64, deadline: Instant) -> Result<Outcome> {
        let page = self.read_events(chain, run_id, event_id, event_id + 1, 1, false, deadline).await?;
        let events = page.batches.into_iter().filter_map(|batch| History::decode(batch).ok());
        let found = events.flat_map(|history| history.events).find(|event| event.event_id == event_id);
        match found.and_then(|event| event.attributes) {
            Some(Attributes::WorkflowExecutionUpdateCompletedEventAttributes(completed)) => {
                Ok(completed.outcome.unwrap_or_default())
            }
            // Retention may remove the run at any time.
            _ => Err(reply::not_found("the outcome of the update is gone")),
        }
    }

    /// `ResetWorkflowExecution`: what is needed of the histories is read first; a run that went on meanwhile
    /// is read again.
    pub async fn reset_workflow(
        &self,
        chain: &ChainId,
        request: ResetWorkflowExecutionRequest,
        deadline: Instant,
    ) -> Result<ResetWorkflowExecutionResponse> {
        for _ in 0..RESETS_MAX {
            let runs = self.histories(chain, &request, deadline).await?;
            let reset = Reset { request: Some(request.clone()), runs };
            match self.call(chain, input::Kind::Reset(reset), deadline).await {
                Ok(ReplyKind::Reset(response)) => return Ok(response),
                Ok(other) => return Err(nonsense(&other)),
                Err(rejection) if rejection.code == reply::code::ABORTED => {}
                Err(rejection) => return Err(rejection),
            }
        }
        Err(unavailable("the workflow goes on too fast to be reset"))
    }

    /// The history of the run that is meant, and of those as which it was continued.
    async fn histories(
        &self,
        chain: &ChainId,
        request: &ResetWorkflowExecutionRequest,
        deadline: Instant,
    ) -> Result<Vec<RunHistory>> {
        let mut execution = request.workflow_execution.clone().unwrap_or_default();
        let (mut runs, mut bytes) = (Vec::new(), 0);
        while runs.len() < RUNS_MAX {
            let head = HistoryHead { execution: Some(execution.clone()), with_virtual_events: false };
            let end = self.history_end(chain, head, None, deadline).await?;
            let batches = self.whole_history(chain, &end.run_id, end.next_event_id, deadline).await?;
            bytes += batches.iter().map(Bytes::len).sum::<usize>();
            if bytes > HISTORIES_BYTES_MAX {
                let said = "The histories of the workflow's runs are too large for a reset.";
                return Err(reply::failed_precondition(said));
            }
            let next = batches.last().and_then(continued_as);
            runs.push(RunHistory { run_id: end.run_id, batches });
            match next {
                Some(run_id) => execution.run_id = run_id,
                None => break,
            }
        }
        Ok(runs)
    }

    async fn whole_history(&self, chain: &ChainId, run_id: &str, end: i64, deadline: Instant) -> Result<Vec<Bytes>> {
        let mut batches = Vec::new();
        let mut first = 1;
        while first != 0 && first < end {
            let page = self.read_events(chain, run_id, first, end, PAGE_EVENTS, false, deadline).await?;
            batches.extend(page.batches);
            first = page.next_event_id;
        }
        Ok(batches)
    }
}

/// The run as which a history that ends with this batch goes on.
fn continued_as(batch: &Bytes) -> Option<String> {
    match History::decode(batch.clone()).ok()?.events.pop()?.attributes? {
        Attributes::WorkflowExecutionContinuedAsNewEventAttributes(continued) => Some(continued.new_execution_run_id),
        _ => None,
    }
}
