//! Standalone activities at the edge: which chain is meant, waiting for changes, listings.
//!
//! # Contract
//! A long poll waits for `activity.longPollTimeout` at most and ends [`WAIT_TAIL`] before its caller's deadline; then the answer
//! is empty, and the caller asks again. The token of a description names the run and how many transitions it
//! had: the next call answers when it has more.

use std::time::Duration;

use bristlecone_machine::stamp::{duration, nanos};
use bristlecone_machine::{reply, standalone};
use bristlecone_proto::chain::{ChainId, HistoryEnd, HistoryHead, input, reply::Kind as ReplyKind};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::activity::v1::ActivityExecutionListInfo;
use bristlecone_proto::temporal::api::common::v1::{ActivityType, WorkflowExecution};
use bristlecone_proto::temporal::api::enums::v1::{ActivityExecutionStatus, WorkflowExecutionStatus};
use bristlecone_proto::temporal::api::workflow::v1::WorkflowExecutionInfo;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    DescribeActivityExecutionRequest, DescribeActivityExecutionResponse,
};
use tokio::time::Instant;

use super::history::Histories;
use super::namespaces::chain_id;
use super::{Call, Edge, Result, errors};
use crate::filter::{Filter, NAMESPACE_DIVISION};
use crate::token::{ActivityChangeToken, BadToken};

/// `activity.longPollBuffer`
const WAIT_TAIL: Duration = Duration::from_secs(1);

/// The chain of a standalone activity.
pub(super) fn chain(namespace: &record::Namespace, activity_id: &str) -> ChainId {
    chain_id(namespace, &standalone::chain_workflow_id(activity_id))
}

/// The execution that an operator's request means, as the requests for a workflow's activities name it: a
/// standalone activity when no workflow is named.
pub(super) fn execution(workflow_id: &str, activity_id: &str, run_id: &str) -> WorkflowExecution {
    let workflow_id =
        if workflow_id.is_empty() { standalone::chain_workflow_id(activity_id) } else { workflow_id.to_owned() };
    WorkflowExecution { workflow_id, run_id: run_id.to_owned() }
}

impl Edge {
    /// The chain in which an operator's request finds its activity, and the name of its execution.
    pub(super) fn operated(
        &self,
        namespace: &str,
        workflow_id: &str,
        activity_id: &str,
        run_id: &str,
    ) -> Result<(ChainId, WorkflowExecution)> {
        let namespace = self.namespace(namespace)?;
        if activity_id.is_empty() {
            return Err(reply::invalid_argument("activity ID is required"));
        }
        super::check::run_id(run_id)?;
        if !workflow_id.is_empty() {
            super::check::workflow_id(workflow_id, &self.cluster().settings().core)?;
        }
        let execution = execution(workflow_id, activity_id, run_id);
        Ok((chain_id(&namespace.record, &execution.workflow_id), execution))
    }

    pub(super) async fn describe_standalone(
        &self,
        chain: &ChainId,
        request: DescribeActivityExecutionRequest,
        by: Instant,
    ) -> Result<DescribeActivityExecutionResponse> {
        let mut response = match self.cluster().call(chain, input::Kind::DescribeStandalone(request), by).await? {
            ReplyKind::DescribeStandalone(response) => *response,
            _ => return Err(errors::unexpected_reply()),
        };
        response.long_poll_token = self.cluster().tokens().seal(&ActivityChangeToken {
            namespace_id: chain.namespace_id.clone(),
            activity_id: standalone::activity_id(&chain.workflow_id).unwrap_or_default().to_owned(),
            run_id: response.run_id.clone(),
            transitions: response.info.as_ref().map_or(0, |info| info.state_transition_count),
        });
        Ok(response)
    }

    /// The number of transitions that the token's holder knows of.
    pub(super) fn open_change(&self, chain: &ChainId, run_id: &str, token: &[u8]) -> Result<i64> {
        let opened = self.cluster().tokens().open(token);
        let token: ActivityChangeToken =
            opened.map_err(|BadToken| reply::invalid_argument("invalid long poll token"))?;
        let same = token.namespace_id == chain.namespace_id
            && standalone::activity_id(&chain.workflow_id) == Some(&token.activity_id)
            && token.run_id == run_id;
        if same {
            Ok(token.transitions)
        } else {
            Err(reply::invalid_argument("long poll token does not match execution"))
        }
    }

    /// Where the run is, once it has more transitions than that or is closed, or when the time is up.
    pub(super) async fn await_change(
        &self,
        chain: &ChainId,
        run_id: &str,
        after: i64,
        call: &Call,
    ) -> Result<HistoryEnd> {
        let run = WorkflowExecution { workflow_id: chain.workflow_id.clone(), run_id: run_id.to_owned() };
        let head = HistoryHead { execution: Some(run), with_virtual_events: false };
        self.end(chain, head, Some(after), self.wait_until(chain, call)).await
    }

    /// Lets the time of a reader pass to whom nothing new will ever be said.
    pub(super) async fn await_nothing(&self, chain: &ChainId, call: &Call) {
        self.unless_draining(tokio::time::sleep_until(self.wait_until(chain, call))).await;
    }

    pub(super) fn activity_filter(&self, query: &str, namespace: &record::Namespace) -> Result<Filter> {
        Filter::parse_for_activities(query, &namespace.search_attributes).map_err(|error| errors::bad_query(&error))
    }

    fn wait_until(&self, chain: &ChainId, call: &Call) -> Instant {
        let wait_ms = self.cluster().settings_of(&chain.namespace).edge.activity_wait_ms;
        let longest = call.started + Duration::from_millis(wait_ms.unsigned_abs());
        match call.deadline.and_then(|deadline| deadline.checked_sub(WAIT_TAIL)) {
            Some(deadline) => deadline.min(longest),
            None => longest,
        }
    }
}

/// What a listing shows of an activity.
pub(super) fn listed(run: WorkflowExecutionInfo) -> ActivityExecutionListInfo {
    let status = match run.status() {
        WorkflowExecutionStatus::Running | WorkflowExecutionStatus::Paused => ActivityExecutionStatus::Running,
        WorkflowExecutionStatus::Completed => ActivityExecutionStatus::Completed,
        WorkflowExecutionStatus::Failed => ActivityExecutionStatus::Failed,
        WorkflowExecutionStatus::Canceled => ActivityExecutionStatus::Canceled,
        WorkflowExecutionStatus::Terminated => ActivityExecutionStatus::Terminated,
        WorkflowExecutionStatus::TimedOut => ActivityExecutionStatus::TimedOut,
        WorkflowExecutionStatus::ContinuedAsNew | WorkflowExecutionStatus::Unspecified => {
            ActivityExecutionStatus::Unspecified
        }
    };
    let execution = run.execution.unwrap_or_default();
    let mut attributes = run.search_attributes.unwrap_or_default();
    attributes.indexed_fields.remove(NAMESPACE_DIVISION);
    let took = run.close_time.as_ref().zip(run.start_time.as_ref());
    ActivityExecutionListInfo {
        activity_id: standalone::activity_id(&execution.workflow_id).unwrap_or_default().to_owned(),
        run_id: execution.run_id,
        activity_type: Some(ActivityType { name: run.r#type.map(|t| t.name).unwrap_or_default() }),
        schedule_time: run.start_time,
        close_time: run.close_time,
        status: status.into(),
        search_attributes: Some(attributes),
        task_queue: run.task_queue,
        state_transition_count: run.state_transition_count,
        state_size_bytes: run.history_size_bytes,
        execution_duration: took.map(|(close, start)| duration(nanos(close).saturating_sub(nanos(start)))),
        execution_time: run.execution_time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bristlecone_proto::temporal::api::common::v1::{Payload, SearchAttributes};
    use prost_types::Timestamp;

    #[test]
    fn a_listing_shows_an_activity_and_not_its_chain() {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let fields = [NAMESPACE_DIVISION, "Mine"].map(|name| (name.to_owned(), Payload::default()));
        let shown = listed(WorkflowExecutionInfo {
            execution: Some(execution("", "a", "r")),
            start_time: at(10),
            execution_time: at(15),
            close_time: at(40),
            status: WorkflowExecutionStatus::TimedOut.into(),
            search_attributes: Some(SearchAttributes { indexed_fields: fields.into() }),
            ..WorkflowExecutionInfo::default()
        });
        assert_eq!((shown.activity_id.as_str(), shown.run_id.as_str()), ("a", "r"));
        assert_eq!(shown.status(), ActivityExecutionStatus::TimedOut);
        assert_eq!(shown.execution_duration.map(|d| d.seconds), Some(30));
        let names: Vec<_> = shown.search_attributes.expect("some").indexed_fields.into_keys().collect();
        assert_eq!(names, ["Mine"]);
    }

    #[test]
    fn operators_name_activities_of_workflows_and_standalone_ones() {
        assert_eq!(execution("w", "a", "").workflow_id, "w");
        assert_eq!(standalone::activity_id(&execution("", "a", "").workflow_id), Some("a"));
    }
}
