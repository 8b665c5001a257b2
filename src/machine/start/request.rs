//! What a start request has to satisfy, in the order in which the original server looks at it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bristlecone_proto::chain::Rejection;
use bristlecone_proto::temporal::api::common::v1::{Callback, Link, callback};
use bristlecone_proto::temporal::api::enums::v1::{WorkflowIdConflictPolicy, WorkflowIdReusePolicy};
use bristlecone_proto::temporal::api::workflowservice::v1::StartWorkflowExecutionRequest;

use crate::draft::Draft;
use crate::stamp::Limits;
use crate::{cron, new_run, reply, schedule, validate};

/// The request with its defaults filled in, or why it is refused. The request id may be empty: then it
/// gets one.
pub(crate) fn checked(
    draft: &Draft<'_>,
    request: &StartWorkflowExecutionRequest,
    default_conflict: WorkflowIdConflictPolicy,
) -> Result<StartWorkflowExecutionRequest, Rejection> {
    let limits = draft.at().limits;
    let mut request = request.clone();
    complete_policies(&mut request, default_conflict);
    check_texts(&mut request, draft)?;
    check_timeouts(&mut request, limits)?;
    check_policies(&request)?;
    check_attached(&mut request, draft)?;
    if !validate::payloads_fit(request.input.as_ref(), limits) {
        return Err(reply::invalid_argument(validate::BLOB_TOO_LARGE));
    }
    if !validate::memo_fits(request.memo.as_ref(), limits) {
        return Err(reply::invalid_argument(validate::MEMO_TOO_LARGE));
    }
    Ok(request)
}

fn complete_policies(request: &mut StartWorkflowExecutionRequest, default_conflict: WorkflowIdConflictPolicy) {
    if request.workflow_id_reuse_policy() == WorkflowIdReusePolicy::Unspecified {
        request.set_workflow_id_reuse_policy(WorkflowIdReusePolicy::AllowDuplicate);
    }
    if request.workflow_id_conflict_policy() == WorkflowIdConflictPolicy::Unspecified
        && request.workflow_id_reuse_policy() != WorkflowIdReusePolicy::TerminateIfRunning
    {
        request.set_workflow_id_conflict_policy(default_conflict);
    }
}

fn check_texts(request: &mut StartWorkflowExecutionRequest, draft: &Draft<'_>) -> Result<(), Rejection> {
    let limits = draft.at().limits;
    let invalid = |text: String| reply::invalid_argument(text);
    validate::required(&request.workflow_id, "WorkflowId", limits).map_err(invalid)?;
    if request.workflow_id.starts_with(schedule::ID_PREFIX) {
        let message = format!("workflow ID cannot start with reserved prefix {}", schedule::ID_PREFIX);
        return Err(reply::invalid_argument(message));
    }
    if let Some(policy) = &request.retry_policy {
        request.retry_policy = Some(validate::retry_policy::complete(policy).map_err(invalid)?);
    }
    if !request.cron_schedule.is_empty() && request.workflow_start_delay.is_some() {
        return Err(reply::invalid_argument("CronSchedule and WorkflowStartDelay may not be used together."));
    }
    request.workflow_start_delay = timeout(request.workflow_start_delay, "WorkflowStartDelaySeconds")?;
    cron::validate(&request.cron_schedule, draft.now()).map_err(|error| reply::invalid_argument(error.text()))?;
    let workflow_type = request.workflow_type.as_ref().map_or("", |t| &t.name);
    validate::required(workflow_type, "WorkflowType", limits).map_err(invalid)?;
    request.task_queue = Some(validate::task_queue(request.task_queue.as_ref(), "", limits).map_err(invalid)?);
    Ok(())
}

fn check_timeouts(request: &mut StartWorkflowExecutionRequest, limits: &Limits) -> Result<(), Rejection> {
    request.workflow_execution_timeout =
        timeout(request.workflow_execution_timeout, "WorkflowExecutionTimeoutSeconds")?;
    request.workflow_run_timeout = timeout(request.workflow_run_timeout, "WorkflowRunTimeoutSeconds")?;
    request.workflow_task_timeout = timeout(request.workflow_task_timeout, "WorkflowTaskTimeoutSeconds")?;
    let invalid = |text: String| reply::invalid_argument(text);
    validate::length(&request.request_id, "RequestId", limits).map_err(invalid)?;
    validate::length(&request.identity, "Identity", limits).map_err(invalid)?;
    let execution = request.workflow_execution_timeout.as_ref();
    request.workflow_run_timeout = new_run::run_timeout(request.workflow_run_timeout.as_ref(), execution);
    let run = request.workflow_run_timeout.as_ref();
    request.workflow_task_timeout = new_run::task_timeout(request.workflow_task_timeout.as_ref(), run, limits);
    Ok(())
}

fn timeout(value: Option<prost_types::Duration>, what: &str) -> Result<Option<prost_types::Duration>, Rejection> {
    validate::duration(value.as_ref())
        .map_err(|error| reply::invalid_argument(format!("An invalid {what} is set on request. cause: {error}")))
}

fn check_policies(request: &StartWorkflowExecutionRequest) -> Result<(), Rejection> {
    let reuse = request.workflow_id_reuse_policy();
    let conflict = request.workflow_id_conflict_policy();
    if conflict != WorkflowIdConflictPolicy::Unspecified && reuse == WorkflowIdReusePolicy::TerminateIfRunning {
        return Err(reply::invalid_argument(
            "Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING cannot be used together \
             with a WorkflowIDConflictPolicy",
        ));
    }
    if conflict == WorkflowIdConflictPolicy::TerminateExisting && reuse == WorkflowIdReusePolicy::RejectDuplicate {
        return Err(reply::invalid_argument(
            "Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE cannot be used together with \
             WorkflowIdConflictPolicy WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING",
        ));
    }
    let options = request.on_conflict_options.as_ref();
    if options.is_some_and(|options| options.attach_completion_callbacks && !options.attach_request_id) {
        return Err(reply::invalid_argument("attaching request ID is required for attaching completion callbacks"));
    }
    Ok(())
}

/// Search attributes, priority, callbacks, links and user metadata.
fn check_attached(request: &mut StartWorkflowExecutionRequest, draft: &Draft<'_>) -> Result<(), Rejection> {
    let at = draft.at();
    let invalid = |text: String| reply::invalid_argument(text);
    validate::search_attributes::check(request.search_attributes.as_ref(), at).map_err(invalid)?;
    validate::search_attributes::check_size(request.search_attributes.as_ref(), at.limits).map_err(invalid)?;
    validate::priority(request.priority.as_ref()).map_err(reply::invalid_argument)?;
    check_callbacks(&mut request.completion_callbacks, at.limits)?;
    request.links = distinct_links(&request.links, &request.completion_callbacks);
    let from_callbacks = request.completion_callbacks.iter().flat_map(|callback| &callback.links);
    let all: Vec<Link> = request.links.iter().chain(from_callbacks).cloned().collect();
    validate::links(&all, at.limits).map_err(invalid)?;
    validate::user_metadata(request.user_metadata.as_ref(), at.limits).map_err(invalid)
}

/// Which addresses may be called is the service's business; here count and size are checked.
fn check_callbacks(callbacks: &mut [Callback], limits: &Limits) -> Result<(), Rejection> {
    const HEADER_BYTES_MAX: usize = 8 * 1024;
    const URL_BYTES_MAX: usize = 1_000;
    if callbacks.len() > limits.callbacks_max {
        let message = format!("cannot attach more than {} callbacks to a workflow", limits.callbacks_max);
        return Err(reply::invalid_argument(message));
    }
    for callback in callbacks {
        match &mut callback.variant {
            Some(callback::Variant::Nexus(nexus)) => {
                if nexus.url.len() > URL_BYTES_MAX {
                    let message = format!("invalid url: url length longer than max length allowed of {URL_BYTES_MAX}");
                    return Err(reply::invalid_argument(message));
                }
                if nexus.header.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > HEADER_BYTES_MAX {
                    let message =
                        format!("invalid header: header size longer than max allowed size of {HEADER_BYTES_MAX}");
                    return Err(reply::invalid_argument(message));
                }
                let header = core::mem::take(&mut nexus.header);
                nexus.header = header.into_iter().map(|(key, value)| (key.to_lowercase(), value)).collect();
            }
            Some(callback::Variant::Internal(_)) => {}
            _ => return Err(reply::plain(reply::code::UNIMPLEMENTED, "unknown callback variant")),
        }
    }
    Ok(())
}

/// Links that a Nexus callback carries already are not kept twice.
fn distinct_links(links: &[Link], callbacks: &[Callback]) -> Vec<Link> {
    let nexus = |callback: &&Callback| matches!(callback.variant, Some(callback::Variant::Nexus(_)));
    let is_known = |link: &Link| callbacks.iter().filter(nexus).any(|callback| callback.links.contains(link));
    links.iter().filter(|link| !is_known(link)).cloned().collect()
}
