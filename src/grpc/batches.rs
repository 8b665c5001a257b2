//! Checks that all RPCs of batch operations make.

use bristlecone_machine::reply::{code, invalid_argument, plain};

use super::{Edge, Result};

impl Edge {
    pub(super) fn check_batches(&self) -> Result<()> {
        if self.cluster().limits().batch_enabled {
            return Ok(());
        }
        Err(plain(code::PERMISSION_DENIED, "Batch operation feature are disabled on this namespace."))
    }
}

pub(super) fn check_request(job_id: &str, namespace: &str) -> Result<()> {
    if job_id.is_empty() {
        return Err(invalid_argument("JobId is not set on request."));
    }
    if namespace.is_empty() {
        return Err(invalid_argument("Namespace is not set on request."));
    }
    Ok(())
}
