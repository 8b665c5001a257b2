//! Features that operators switch off and on, each refused in the words of the API.

use bristlecone_machine::reply::{code, invalid_argument, plain};

use super::{Edge, Result};
use crate::dynamic::Settings;

impl Edge {
    pub(super) fn check_batches(&self, namespace: &str) -> Result<()> {
        let refusal = "Batch operation feature are disabled on this namespace.";
        self.check_switch(namespace, |settings| settings.core.batch_enabled, code::PERMISSION_DENIED, refusal)
    }

    pub(super) fn check_schedules(&self, namespace: &str) -> Result<()> {
        let refusal = "Schedules are disabled on this namespace.";
        self.check_switch(namespace, |settings| settings.edge.schedules, code::PERMISSION_DENIED, refusal)
    }

    pub(super) fn check_updates(&self, namespace: &str) -> Result<()> {
        let refusal = "UpdateWorkflowExecution operation is disabled on this namespace.";
        self.check_switch(namespace, |settings| settings.edge.updates, code::PERMISSION_DENIED, refusal)
    }

    pub(super) fn check_standalone_activities(&self, namespace: &str) -> Result<()> {
        let is_on = |settings: &Settings| settings.edge.standalone_activities;
        self.check_switch(namespace, is_on, code::UNIMPLEMENTED, "Standalone activity is disabled")
    }

    pub(super) fn check_pauses(&self, namespace: &str) -> Result<()> {
        let refusal = format!("workflow pause is not enabled for namespace: {namespace}");
        self.check_switch(namespace, |settings| settings.core.pause_enabled, code::UNIMPLEMENTED, &refusal)
    }

    pub(super) fn check_workflow_rules(&self, namespace: &str, rpc: &str) -> Result<()> {
        let refusal = format!("method {rpc} not supported");
        self.check_switch(namespace, |settings| settings.edge.workflow_rules, code::UNIMPLEMENTED, &refusal)
    }

    pub(super) fn check_queries(&self, namespace: &str) -> Result<()> {
        let refusal = "Namespace is not allowed to query, please contact temporal team to re-enable queries.";
        if self.cluster().settings_of(namespace).edge.queries { Ok(()) } else { Err(invalid_argument(refusal)) }
    }

    fn check_switch(&self, namespace: &str, is_on: fn(&Settings) -> bool, code: i32, refusal: &str) -> Result<()> {
        if is_on(&self.cluster().settings_of(namespace)) { Ok(()) } else { Err(plain(code, refusal)) }
    }
}
