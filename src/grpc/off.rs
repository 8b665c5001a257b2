//! RPCs that are answered as a server answers them in which what they are for is switched off, as it is unless
//! its operators say otherwise: features that the API has deprecated or not finished, or that need what this
//! server does not have.

use bristlecone_machine::reply::{code, invalid_argument, not_found, plain};
use bristlecone_proto::chain::Rejection;

/// The answer to an RPC, by its name; `None`: it is not among these.
pub fn refusal(rpc: &str) -> Option<Rejection> {
    Some(match rpc {
        "UpdateWorkerBuildIdCompatibility" | "GetWorkerBuildIdCompatibility" => plain(
            code::PERMISSION_DENIED,
            "Worker versioning v0.1 (Version Set-based, deprecated) is disabled on this namespace.",
        ),
        "UpdateWorkerVersioningRules" | "GetWorkerVersioningRules" | "GetWorkerTaskReachability" => plain(
            code::PERMISSION_DENIED,
            "Worker versioning v0.2 (Rules-based, deprecated) is disabled on this namespace.",
        ),
        "DescribeDeployment"
        | "ListDeployments"
        | "GetDeploymentReachability"
        | "GetCurrentDeployment"
        | "SetCurrentDeployment" => plain(
            code::UNIMPLEMENTED,
            "Deployments are deprecated and no longer supported, use Worker Deployments instead",
        ),
        "FetchWorkerConfig" | "UpdateWorkerConfig" => {
            plain(code::UNIMPLEMENTED, format!("{rpc} command is not enabled."))
        }
        "TriggerWorkflowRule" => plain(code::UNIMPLEMENTED, format!("method {rpc} not supported")),
        "ListArchivedWorkflowExecutions" => invalid_argument("Cluster is not configured for visibility archival."),
        // There is no other cluster.
        "RemoveRemoteCluster" => not_found("The cluster to be deleted cannot be found in clusters cache."),
        _ => return None,
    })
}
