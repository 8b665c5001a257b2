//! Checks that all RPCs of batch operations make.

use bristlecone_machine::reply::invalid_argument;

use super::Result;

pub(super) fn check_request(job_id: &str, namespace: &str) -> Result<()> {
    if job_id.is_empty() {
        return Err(invalid_argument("JobId is not set on request."));
    }
    if namespace.is_empty() {
        return Err(invalid_argument("Namespace is not set on request."));
    }
    Ok(())
}
