//! UpdateWorkflowExecutionOptions: which workers an open run is for, and how urgent it is.
//!
//! # Contract
//! The mask says which of the given options replace those of the run; all of the result stands in the event.
//! What changes nothing leaves no trace. No workflow task tells the worker: the options are the server's.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

use bristlecone_proto::chain::{Rejection, reply::Kind as ReplyKind};
use bristlecone_proto::temporal::api::deployment::v1::WorkerDeploymentVersion;
use bristlecone_proto::temporal::api::enums::v1::VersioningBehavior;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::history::v1::{HistoryEvent, WorkflowExecutionOptionsUpdatedEventAttributes};
use bristlecone_proto::temporal::api::workflow::v1::versioning_override::{
    Override, PinnedOverride, PinnedOverrideBehavior,
};
use bristlecone_proto::temporal::api::workflow::v1::{
    VersioningOverride, WorkflowExecutionOptions, WorkflowExecutionVersioningInfo,
};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    UpdateWorkflowExecutionOptionsRequest, UpdateWorkflowExecutionOptionsResponse,
};

use crate::chain::Run;
use crate::draft::Draft;
use crate::{Step, event, reply, validate};

pub(crate) fn update_workflow_options(mut draft: Draft<'_>, request: &UpdateWorkflowExecutionOptionsRequest) -> Step {
    let run_id = match checked(&draft, request) {
        Ok(run_id) => run_id,
        Err(rejection) => return draft.reject(rejection),
    };
    let options = request.workflow_execution_options.clone().unwrap_or_default();
    let paths = request.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
    match apply(&mut draft, &run_id, options, paths, &request.identity) {
        Ok((options, changed)) => {
            let response = UpdateWorkflowExecutionOptionsResponse {
                workflow_execution_options: Some(options),
                ..UpdateWorkflowExecutionOptionsResponse::default()
            };
            let reply = reply::of(ReplyKind::WorkflowOptions(response));
            if changed { draft.finish(reply) } else { draft.unchanged(reply) }
        }
        Err(rejection) => draft.reject(rejection),
    }
}

/// The open run that is meant, if the request makes sense.
fn checked(draft: &Draft<'_>, request: &UpdateWorkflowExecutionOptionsRequest) -> Result<String, Rejection> {
    if request.workflow_execution.as_ref().is_none_or(|execution| execution.workflow_id.is_empty()) {
        return Err(reply::invalid_argument("WorkflowId is not set on request."));
    }
    let Some(mask) = &request.update_mask else { return Err(reply::invalid_argument("UpdateMask is required")) };
    let Some(options) = &request.workflow_execution_options else {
        return Err(reply::invalid_argument("WorkflowExecutionOptions is required"));
    };
    if let Some(error) = wrong_path(&mask.paths) {
        return Err(reply::invalid_argument(format!("error parsing UpdateMask: {error}")));
    }
    validate::priority(options.priority.as_ref()).map_err(reply::invalid_argument)?;
    draft.find_running(request.workflow_execution.as_ref())
}

/// Gives an open run the options that the mask names; answers with all that it has then, and whether any of
/// them changed. The transition begins here if so.
pub(crate) fn apply(
    draft: &mut Draft<'_>,
    run_id: &str,
    mut wanted: WorkflowExecutionOptions,
    paths: &[String],
    identity: &str,
) -> Result<(WorkflowExecutionOptions, bool), Rejection> {
    let workflow_id = draft.id().workflow_id.clone();
    let run = draft.run(run_id);
    pin_where_it_is(run, &workflow_id, &mut wanted)?;
    if let Some(versioning_override) = &wanted.versioning_override {
        check_override(versioning_override).map_err(reply::invalid_argument)?;
    }
    let current = of(run);
    let merged = merged(current.clone(), &wanted, paths)
        .map_err(|error| reply::invalid_argument(format!("error applying update_options: {error}")))?;
    if merged == current {
        return Ok((merged, false));
    }
    draft.begin_transition(run_id);
    let attributes = WorkflowExecutionOptionsUpdatedEventAttributes {
        versioning_override: merged.versioning_override.clone(),
        unset_versioning_override: merged.versioning_override.is_none(),
        identity: identity.to_owned(),
        priority: merged.priority.clone(),
        ..WorkflowExecutionOptionsUpdatedEventAttributes::default()
    };
    let event = event::new(draft.now(), Attributes::WorkflowExecutionOptionsUpdatedEventAttributes(attributes));
    draft.add_event(run_id, HistoryEvent { worker_may_ignore: true, ..event });
    Ok((merged, true))
}

/// The options that a run has.
fn of(run: &Run) -> WorkflowExecutionOptions {
    WorkflowExecutionOptions {
        versioning_override: run.head.versioning.as_ref().and_then(|versioning| versioning.versioning_override.clone()),
        priority: run.head.priority.clone(),
        ..WorkflowExecutionOptions::default()
    }
}

/// An override that pins without naming a version means the one that the run is pinned to already.
fn pin_where_it_is(run: &Run, workflow_id: &str, wanted: &mut WorkflowExecutionOptions) -> Result<(), Rejection> {
    let versioning_override = wanted.versioning_override.as_mut().and_then(|wanted| wanted.r#override.as_mut());
    let Some(Override::Pinned(pinned)) = versioning_override else { return Ok(()) };
    if pinned.behavior() == PinnedOverrideBehavior::Unspecified || pinned.version.is_some() {
        return Ok(());
    }
    let (behavior, version) = effective(run.head.versioning.as_ref());
    if behavior != VersioningBehavior::Pinned {
        return Err(reply::failed_precondition(format!(
            "must specify a specific pinned override version because workflow with id {workflow_id} has behavior \
             {behavior:?} and is not yet pinned to any version"
        )));
    }
    pinned.version = version;
    Ok(())
}

/// How a run is routed: by its override, else by what its worker said with its last workflow task.
pub(crate) fn effective(
    versioning: Option<&WorkflowExecutionVersioningInfo>,
) -> (VersioningBehavior, Option<WorkerDeploymentVersion>) {
    let Some(versioning) = versioning else { return (VersioningBehavior::Unspecified, None) };
    let own = versioning.deployment_version.clone();
    match versioning.versioning_override.as_ref().map(|wanted| in_new_fields(wanted).r#override) {
        Some(Some(Override::Pinned(pinned))) => (VersioningBehavior::Pinned, pinned.version),
        Some(Some(Override::AutoUpgrade(true))) => (VersioningBehavior::AutoUpgrade, own),
        _ => (versioning.behavior(), own),
    }
}

/// An override as the API spells it today: older spellings are understood, and kept in the new one.
pub(crate) fn in_new_fields(wanted: &VersioningOverride) -> VersioningOverride {
    let pinned = |deployment_name: &str, build_id: &str| {
        let version = WorkerDeploymentVersion { deployment_name: deployment_name.into(), build_id: build_id.into() };
        Override::Pinned(PinnedOverride { behavior: PinnedOverrideBehavior::Pinned.into(), version: Some(version) })
    };
    let mut now = wanted.r#override.clone();
    if wanted.behavior() == VersioningBehavior::AutoUpgrade {
        now = Some(Override::AutoUpgrade(true));
    }
    if let Some(deployment) = &wanted.deployment {
        now = Some(pinned(&deployment.series_name, &deployment.build_id));
    }
    if let Some((deployment_name, build_id)) = wanted.pinned_version.split_once('.') {
        now = Some(pinned(deployment_name, build_id));
    }
    VersioningOverride { r#override: now, ..VersioningOverride::default() }
}

/// Whether an override says all that it has to.
fn check_override(wanted: &VersioningOverride) -> Result<(), String> {
    match &wanted.r#override {
        Some(Override::Pinned(pinned)) if pinned.version.is_none() => {
            return Err("must provide version if override is pinned.".into());
        }
        Some(Override::Pinned(pinned)) if pinned.behavior() == PinnedOverrideBehavior::Unspecified => {
            return Err("must specify pinned override behavior if override is pinned.".into());
        }
        Some(Override::Pinned(_) | Override::AutoUpgrade(true)) => return Ok(()),
        _ => {}
    }
    let (deployment, version) = (wanted.deployment.as_ref(), wanted.pinned_version.as_str());
    match VersioningBehavior::try_from(wanted.behavior) {
        Ok(VersioningBehavior::Pinned) => match deployment {
            Some(deployment) if deployment.series_name.is_empty() => Err("deployment name cannot be empty".into()),
            Some(deployment) if deployment.series_name.contains(['.', ':']) => {
                Err("deployment name cannot contain '.' or ':'".into())
            }
            Some(deployment) if deployment.build_id.is_empty() => Err("deployment build ID cannot be empty".into()),
            Some(_) => Ok(()),
            None if version.is_empty() => {
                Err("must provide deployment (deprecated) or pinned version if behavior is 'PINNED'".into())
            }
            None if !version.contains('.') => {
                Err(format!("invalid version string {version:?}, expected format is \"<deployment_name>.<build_id>\""))
            }
            None => Ok(()),
        },
        Ok(VersioningBehavior::AutoUpgrade) if deployment.is_some() => {
            Err("only provide deployment if behavior is 'PINNED'".into())
        }
        Ok(VersioningBehavior::AutoUpgrade) if !version.is_empty() => {
            Err("only provide pinned version if behavior is 'PINNED'".into())
        }
        Ok(VersioningBehavior::AutoUpgrade) => Ok(()),
        Ok(VersioningBehavior::Unspecified) => Err("override behavior is required".into()),
        Err(_) => Err(format!("override behavior {} not recognized", wanted.behavior)),
    }
}

/// The options with those that the mask names taken from the wanted ones, or what is wrong with the mask.
fn merged(
    mut into: WorkflowExecutionOptions,
    wanted: &WorkflowExecutionOptions,
    paths: &[String],
) -> Result<WorkflowExecutionOptions, String> {
    if let Some(error) = wrong_path(paths) {
        return Err(error);
    }
    let named = |name: &str| paths.iter().any(|path| path == name);
    let parts = (named("versioning_override.deployment"), named("versioning_override.behavior"));
    if parts.0 != parts.1 {
        return Err("versioning_override fields must be updated together".into());
    }
    if named("versioning_override") || parts.0 {
        into.versioning_override.clone_from(&wanted.versioning_override);
    }
    if named("priority") {
        into.priority.clone_from(&wanted.priority);
    }
    let given = wanted.priority.clone().unwrap_or_default();
    if named("priority.priority_key") {
        into.priority.get_or_insert_default().priority_key = given.priority_key;
    }
    if named("priority.fairness_key") {
        into.priority.get_or_insert_default().fairness_key.clone_from(&given.fairness_key);
    }
    if named("priority.fairness_weight") {
        into.priority.get_or_insert_default().fairness_weight = given.fairness_weight;
    }
    Ok(into)
}

/// What is said of the first path that options do not have.
fn wrong_path(paths: &[String]) -> Option<String> {
    const KNOWN: [&str; 16] = [
        "versioning_override",
        "versioning_override.behavior",
        "versioning_override.deployment",
        "versioning_override.deployment.series_name",
        "versioning_override.deployment.build_id",
        "versioning_override.pinned_version",
        "versioning_override.pinned",
        "versioning_override.pinned.behavior",
        "versioning_override.pinned.version",
        "versioning_override.pinned.version.deployment_name",
        "versioning_override.pinned.version.build_id",
        "versioning_override.auto_upgrade",
        "priority",
        "priority.priority_key",
        "priority.fairness_key",
        "priority.fairness_weight",
    ];
    let wrong = paths.iter().find(|path| !KNOWN.contains(&path.as_str()))?;
    Some(format!("proto: invalid path {wrong:?} for message \"temporal.api.workflow.v1.WorkflowExecutionOptions\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use bristlecone_proto::temporal::api::common::v1::Priority;
    use bristlecone_proto::temporal::api::deployment::v1::Deployment;

    fn paths(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| String::from(*name)).collect()
    }

    fn pinned(name: &str, build_id: &str) -> Option<Override> {
        let version = WorkerDeploymentVersion { deployment_name: name.into(), build_id: build_id.into() };
        let behavior = PinnedOverrideBehavior::Pinned.into();
        Some(Override::Pinned(PinnedOverride { behavior, version: Some(version) }))
    }

    #[test]
    fn only_what_the_mask_names_is_taken() {
        let wanted = WorkflowExecutionOptions {
            versioning_override: Some(VersioningOverride { r#override: pinned("d", "1"), ..Default::default() }),
            priority: Some(Priority { priority_key: 2, fairness_key: "k".into(), fairness_weight: 3.0 }),
            ..WorkflowExecutionOptions::default()
        };
        let nothing = WorkflowExecutionOptions::default;
        let merge = |names: &[&str]| merged(nothing(), &wanted, &paths(names));
        assert_eq!(merge(&[]), Ok(nothing()));
        assert_eq!(merge(&["priority"]).map(|m| m.priority), Ok(wanted.priority.clone()));
        let key = Some(Priority { priority_key: 2, ..Priority::default() });
        assert_eq!(merge(&["priority.priority_key"]).map(|m| m.priority), Ok(key));
        assert_eq!(merge(&["versioning_override"]).map(|m| m.versioning_override), Ok(wanted.versioning_override));
        let apart = "versioning_override fields must be updated together";
        assert_eq!(merged(nothing(), &nothing(), &paths(&["versioning_override.behavior"])), Err(apart.into()));
        let unknown = merged(nothing(), &nothing(), &paths(&["priorities"])).expect_err("no such path");
        assert!(unknown.starts_with("proto: invalid path \"priorities\""), "{unknown}");
    }

    #[test]
    fn older_spellings_of_an_override_mean_the_same() {
        let deployment = Some(Deployment { series_name: "d".into(), build_id: "1".into() });
        let behavior = VersioningBehavior::Pinned.into();
        let by_deployment = VersioningOverride { behavior, deployment, ..Default::default() };
        let by_text = VersioningOverride { behavior, pinned_version: "d.1".into(), ..Default::default() };
        for old in [by_deployment, by_text] {
            assert_eq!(check_override(&old), Ok(()));
            assert_eq!(in_new_fields(&old).r#override, pinned("d", "1"));
        }
        let upgrade = VersioningOverride { behavior: VersioningBehavior::AutoUpgrade.into(), ..Default::default() };
        assert_eq!(in_new_fields(&upgrade).r#override, Some(Override::AutoUpgrade(true)));
        let nothing = VersioningOverride::default();
        assert_eq!(check_override(&nothing), Err("override behavior is required".into()));
    }
}
