//! From what a worker sends back (a token, or the ids of an activity) to the chain that waits for it.

use bristlecone_machine::reply;
use bristlecone_proto::chain::{ActivityRef, ActivityTaskToken, ChainId};

use super::namespaces::chain_id;
use super::{Edge, Result, activities, check, errors};
use crate::token::{BadToken, Token};

impl Edge {
    pub(super) fn open_task<T: Token>(&self, token: &[u8]) -> Result<T> {
        if token.is_empty() {
            return Err(reply::invalid_argument("Task token not set on request."));
        }
        self.cluster().tokens().open(token).map_err(|BadToken| errors::bad_task_token())
    }

    /// The activity that a token was given out for. `namespace` is the request's and may be empty.
    pub(super) fn activity_by_token(&self, token: &[u8], namespace: &str) -> Result<(ChainId, ActivityRef)> {
        let token: ActivityTaskToken = self.open_task(token)?;
        let namespace = self.token_namespace(&token.namespace_id, namespace)?;
        let chain = chain_id(&namespace.record, &token.workflow_id);
        let activity = ActivityRef {
            run_id: token.run_id,
            scheduled_event_id: token.scheduled_event_id,
            activity_id: token.activity_id,
            attempt: token.attempt,
            by_id: false,
            started_time: token.started_time,
        };
        Ok((chain, activity))
    }

    /// The activity with this id in a workflow, or the standalone one when no workflow is named; an empty run id is
    /// the current run.
    pub(super) fn activity_by_id(
        &self,
        namespace: &str,
        workflow_id: &str,
        run_id: String,
        activity_id: String,
    ) -> Result<(ChainId, ActivityRef)> {
        let namespace = self.namespace(namespace)?;
        if activity_id.is_empty() {
            return Err(reply::invalid_argument("ActivityId is not set on request."));
        }
        check::run_id(&run_id)?;
        let chain = if workflow_id.is_empty() {
            activities::chain(&namespace.record, &activity_id)
        } else {
            check::workflow_id(workflow_id, &self.cluster().settings().core)?;
            chain_id(&namespace.record, workflow_id)
        };
        Ok((chain, ActivityRef { run_id, activity_id, by_id: true, ..ActivityRef::default() }))
    }
}
