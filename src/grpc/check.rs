//! Checks of requests that need no workflow, beside those that the state machine makes anyway.

use bristlecone_machine::{Limits, reply, standalone, validate};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::command::v1::{Command, command::Attributes};
use bristlecone_proto::temporal::api::common::v1::{Callback, SearchAttributes, WorkflowExecution, callback};
use bristlecone_proto::temporal::api::deployment::v1::WorkerDeploymentOptions;
use bristlecone_proto::temporal::api::enums::v1::{IndexedValueType, TaskQueueKind, WorkerVersioningMode};
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;
use bytes::Bytes;

use super::Result;
use crate::dynamic::Settings;
use crate::filter;

/// The only address that completion callbacks may have: the cluster itself.
const SYSTEM_CALLBACK: &str = "temporal://system";

/// The execution that a request is about; an empty run id is the current run.
pub fn execution<'a>(execution: Option<&'a WorkflowExecution>, limits: &Limits) -> Result<&'a WorkflowExecution> {
    let execution = execution.ok_or_else(|| reply::invalid_argument("Execution is not set on request."))?;
    workflow_id(&execution.workflow_id, limits)?;
    run_id(&execution.run_id)?;
    Ok(execution)
}

pub fn workflow_id(workflow_id: &str, limits: &Limits) -> Result<()> {
    validate::required(workflow_id, "WorkflowId", limits).map_err(reply::invalid_argument)?;
    match standalone::activity_id(workflow_id) {
        None => Ok(()),
        Some(_) => Err(reply::invalid_argument("WorkflowId begins with a prefix that is reserved by the server.")),
    }
}

/// Empty, or a UUID.
pub fn run_id(run_id: &str) -> Result<()> {
    if run_id.is_empty() || uuid::Uuid::try_parse(run_id).is_ok() {
        Ok(())
    } else {
        Err(reply::invalid_argument("Invalid RunId."))
    }
}

pub fn identity(identity: &str, limits: &Limits) -> Result<()> {
    validate::length(identity, "Identity", limits).map_err(reply::invalid_argument)
}

/// The queue of a poll or a description, with its kind filled in.
pub fn task_queue(queue: Option<&TaskQueue>, limits: &Limits) -> Result<TaskQueue> {
    validate::task_queue(queue, "", limits).map_err(reply::invalid_argument)
}

/// What a worker says of its version: `(build id, whether it uses versioning)`, and its deployment.
pub fn versioning(
    build: Option<(&str, bool)>,
    deployment: Option<&WorkerDeploymentOptions>,
    queue: Option<&TaskQueue>,
    settings: &Settings,
) -> Result<()> {
    let (build_id, uses_versioning) = build.unwrap_or_default();
    let invalid = |text: &str| Err(reply::invalid_argument(text));
    let is_sticky = queue.is_some_and(|queue| queue.kind() == TaskQueueKind::Sticky && queue.normal_name.is_empty());
    if is_sticky && (uses_versioning || deployment.is_some()) {
        return invalid(
            "NormalName must be set on sticky queue when UseVersioning is true or DeploymentOptions are set.",
        );
    }
    if uses_versioning && build_id.is_empty() {
        return invalid("WorkerVersionStamp must be present if UseVersioning is true.");
    }
    if build_id.len() > settings.edge.build_id_bytes_max {
        return invalid("Build ID exceeds configured limit.workerBuildIdSize, use a shorter build ID.");
    }
    match deployment {
        Some(options)
            if options.worker_versioning_mode() == WorkerVersioningMode::Versioned
                && (options.deployment_name.is_empty() || options.build_id.is_empty()) =>
        {
            invalid("Both deployment name and build id must be set when versioning is enabled.")
        }
        _ => Ok(()),
    }
}

pub fn callbacks(callbacks: &[Callback]) -> Result<()> {
    for callback in callbacks {
        if let Some(callback::Variant::Nexus(nexus)) = &callback.variant
            && nexus.url != SYSTEM_CALLBACK
        {
            let message = format!("invalid url: url does not match any configured callback address: {}", nexus.url);
            return Err(reply::invalid_argument(message));
        }
    }
    Ok(())
}

/// Notes with each value what its type is: readers of histories and listings decode by it.
pub fn note_types(attributes: Option<&mut SearchAttributes>, namespace: &record::Namespace) {
    let Some(attributes) = attributes else { return };
    for (name, payload) in &mut attributes.indexed_fields {
        let custom = || namespace.search_attributes.get(name).and_then(|kind| IndexedValueType::try_from(*kind).ok());
        if let Some(kind) = filter::type_of(name).or_else(custom) {
            payload.metadata.insert("type".to_owned(), Bytes::from(format!("{kind:?}")));
        }
    }
}

/// The same for whatever search attributes a worker's commands set.
pub fn note_types_in_commands(commands: &mut [Command], namespace: &record::Namespace) {
    for command in commands {
        let attributes = match &mut command.attributes {
            Some(Attributes::UpsertWorkflowSearchAttributesCommandAttributes(upsert)) => {
                upsert.search_attributes.as_mut()
            }
            Some(Attributes::ContinueAsNewWorkflowExecutionCommandAttributes(next)) => next.search_attributes.as_mut(),
            Some(Attributes::StartChildWorkflowExecutionCommandAttributes(child)) => child.search_attributes.as_mut(),
            _ => None,
        };
        note_types(attributes, namespace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bristlecone_proto::temporal::api::common::v1::Payload;

    fn run(workflow_id: &str, run_id: &str) -> WorkflowExecution {
        WorkflowExecution { workflow_id: workflow_id.into(), run_id: run_id.into() }
    }

    #[test]
    fn executions_are_named_properly() {
        let limits = Limits::default();
        let check = |run: Option<&WorkflowExecution>| execution(run, &limits).map(|_| ()).map_err(|r| r.message);
        assert_eq!(check(None), Err("Execution is not set on request.".into()));
        assert_eq!(check(Some(&run("", ""))), Err("WorkflowId is not set on request.".into()));
        assert_eq!(check(Some(&run(&"w".repeat(1001), ""))), Err("WorkflowId length exceeds limit.".into()));
        assert_eq!(check(Some(&run("w", "1"))), Err("Invalid RunId.".into()));
        assert_eq!(check(Some(&run("w", "32049b68-7872-4094-8e63-d0dd59896a83"))), Ok(()));
        assert_eq!(check(Some(&run("w", ""))), Ok(()));
    }

    #[test]
    fn versions_are_complete() {
        let long = "b".repeat(256);
        let sticky = TaskQueue { name: "s".into(), kind: TaskQueueKind::Sticky.into(), normal_name: String::new() };
        let versioned = |name: &str, build_id: &str| WorkerDeploymentOptions {
            deployment_name: name.into(),
            build_id: build_id.into(),
            worker_versioning_mode: WorkerVersioningMode::Versioned.into(),
        };
        let is_ok = |build, deployment: Option<&WorkerDeploymentOptions>, queue| {
            versioning(build, deployment, queue, &Settings::default()).is_ok()
        };
        assert!(is_ok(None, None, Some(&sticky)));
        assert!(is_ok(Some(("b", true)), Some(&versioned("d", "b")), None));
        assert!(is_ok(None, Some(&WorkerDeploymentOptions::default()), None));
        assert!(!is_ok(Some(("b", true)), None, Some(&sticky)));
        assert!(!is_ok(None, Some(&versioned("d", "b")), Some(&sticky)));
        assert!(!is_ok(Some(("", true)), None, None));
        assert!(!is_ok(Some((long.as_str(), false)), None, None));
        assert!(!is_ok(None, Some(&versioned("", "b")), None));
        assert!(!is_ok(None, Some(&versioned("d", "")), None));
    }

    #[test]
    fn callbacks_go_to_the_cluster_only() {
        let nexus = |url: &str| Callback {
            variant: Some(callback::Variant::Nexus(callback::Nexus { url: url.into(), ..callback::Nexus::default() })),
            ..Callback::default()
        };
        assert_eq!(callbacks(&[nexus(SYSTEM_CALLBACK)]), Ok(()));
        let error = callbacks(&[nexus(SYSTEM_CALLBACK), nexus("http://localhost/x")]).expect_err("not allowed");
        assert_eq!(
            error.message,
            "invalid url: url does not match any configured callback address: http://localhost/x"
        );
    }

    #[test]
    fn values_are_noted_with_their_types() {
        let namespace = record::Namespace {
            search_attributes: [("Amount".to_owned(), IndexedValueType::Int.into())].into(),
            ..record::Namespace::default()
        };
        let fields = ["Amount", "BuildIds", "Unknown"].map(|name| (name.to_owned(), Payload::default()));
        let mut attributes = SearchAttributes { indexed_fields: fields.into() };
        note_types(Some(&mut attributes), &namespace);
        let noted: Vec<_> = attributes.indexed_fields.values().map(|payload| payload.metadata.get("type")).collect();
        assert_eq!(noted, [Some(&Bytes::from("Int")), Some(&Bytes::from("KeywordList")), None]);
    }
}
