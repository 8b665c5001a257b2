//! A change of an activity's options: the fields that a mask names, taken over and checked.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::string::String;

use bristlecone_proto::record;
use bristlecone_proto::temporal::api::activity::v1::ActivityOptions;
use bristlecone_proto::temporal::api::command::v1::ScheduleActivityTaskCommandAttributes;
use bristlecone_proto::temporal::api::common::v1::ActivityType;
use prost_types::FieldMask;

use crate::stamp::Limits;
use crate::validate;

/// The paths of a mask, written `lowerCamel` whichever way they came.
pub(super) fn paths(mask: Option<&FieldMask>) -> BTreeSet<String> {
    mask.map(|mask| mask.paths.iter().map(|path| lower_camel(path)).collect()).unwrap_or_default()
}

/// The options with the named fields of the given ones, or what is missing.
pub(super) fn merged(
    mut into: ActivityOptions,
    given: &ActivityOptions,
    paths: &BTreeSet<String>,
) -> Result<ActivityOptions, String> {
    for path in paths {
        let queue = || given.task_queue.clone().ok_or_else(|| "TaskQueue is not provided".to_owned());
        let policy = || given.retry_policy.clone().ok_or_else(|| "RetryPolicy is not provided".to_owned());
        let priority = || given.priority.clone().ok_or_else(|| "Priority is not provided".to_owned());
        match path.as_str() {
            "taskQueue" | "taskQueue.name" => into.task_queue.get_or_insert_default().name = queue()?.name,
            "scheduleToCloseTimeout" => into.schedule_to_close_timeout = given.schedule_to_close_timeout,
            "scheduleToStartTimeout" => into.schedule_to_start_timeout = given.schedule_to_start_timeout,
            "startToCloseTimeout" => into.start_to_close_timeout = given.start_to_close_timeout,
            "heartbeatTimeout" => into.heartbeat_timeout = given.heartbeat_timeout,
            "priority" => into.priority.clone_from(&given.priority),
            "priority.priorityKey" => {
                into.priority.get_or_insert_default().priority_key = priority()?.priority_key;
            }
            "priority.fairnessKey" => {
                into.priority.get_or_insert_default().fairness_key = priority()?.fairness_key;
            }
            "priority.fairnessWeight" => {
                into.priority.get_or_insert_default().fairness_weight = priority()?.fairness_weight;
            }
            "retryPolicy" => into.retry_policy = Some(policy()?),
            "retryPolicy.initialInterval" => {
                into.retry_policy.get_or_insert_default().initial_interval = policy()?.initial_interval;
            }
            "retryPolicy.backoffCoefficient" => {
                into.retry_policy.get_or_insert_default().backoff_coefficient = policy()?.backoff_coefficient;
            }
            "retryPolicy.maximumInterval" => {
                into.retry_policy.get_or_insert_default().maximum_interval = policy()?.maximum_interval;
            }
            "retryPolicy.maximumAttempts" => {
                into.retry_policy.get_or_insert_default().maximum_attempts = policy()?.maximum_attempts;
            }
            // What is not known here changes nothing, as in the original server.
            _ => {}
        }
    }
    Ok(into)
}

/// The options made complete as those of a new activity are, or what is wrong with them.
pub(super) fn checked(
    activity: &record::Activity,
    options: ActivityOptions,
    workflow_queue: &str,
    limits: &Limits,
) -> Result<ActivityOptions, String> {
    let command = ScheduleActivityTaskCommandAttributes {
        activity_id: activity.activity_id.clone(),
        activity_type: Some(ActivityType { name: activity.activity_type.clone() }),
        task_queue: options.task_queue.clone(),
        schedule_to_close_timeout: options.schedule_to_close_timeout,
        schedule_to_start_timeout: options.schedule_to_start_timeout,
        start_to_close_timeout: options.start_to_close_timeout,
        heartbeat_timeout: options.heartbeat_timeout,
        retry_policy: options.retry_policy.clone(),
        priority: options.priority.clone(),
        ..ScheduleActivityTaskCommandAttributes::default()
    };
    let completed = validate::activity::complete(&command, 0, workflow_queue, limits)?;
    Ok(ActivityOptions {
        task_queue: completed.task_queue,
        schedule_to_close_timeout: completed.schedule_to_close_timeout,
        schedule_to_start_timeout: completed.schedule_to_start_timeout,
        start_to_close_timeout: completed.start_to_close_timeout,
        heartbeat_timeout: completed.heartbeat_timeout,
        ..options
    })
}

fn lower_camel(path: &str) -> String {
    let mut camel = String::with_capacity(path.len());
    let mut upper = false;
    for c in path.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                camel.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => camel.push(c),
        }
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::duration;
    use alloc::string::ToString;
    use bristlecone_proto::temporal::api::common::v1::{Priority, RetryPolicy};

    fn of(names: &[&str]) -> BTreeSet<String> {
        let mask = FieldMask { paths: names.iter().map(ToString::to_string).collect() };
        paths(Some(&mask))
    }

    #[test]
    fn paths_are_understood_in_both_spellings() {
        let both = of(&["retry_policy.maximum_attempts", "retryPolicy.maximumAttempts"]);
        assert_eq!(both.into_iter().collect::<alloc::vec::Vec<_>>(), ["retryPolicy.maximumAttempts"]);
    }

    #[test]
    fn only_what_the_mask_names_is_taken() {
        let given = ActivityOptions {
            heartbeat_timeout: Some(duration(7)),
            start_to_close_timeout: Some(duration(8)),
            retry_policy: Some(RetryPolicy { maximum_attempts: 9, backoff_coefficient: 3.0, ..RetryPolicy::default() }),
            priority: Some(Priority { priority_key: 2, fairness_weight: 5.0, ..Priority::default() }),
            ..ActivityOptions::default()
        };
        let names = ["heartbeat_timeout", "retry_policy.maximum_attempts", "priority.priority_key", "unknown"];
        let merged = merged(ActivityOptions::default(), &given, &of(&names)).expect("everything is given");
        assert_eq!(merged.heartbeat_timeout, given.heartbeat_timeout);
        assert_eq!(merged.start_to_close_timeout, None);
        assert_eq!(merged.retry_policy, Some(RetryPolicy { maximum_attempts: 9, ..RetryPolicy::default() }));
        assert_eq!(merged.priority, Some(Priority { priority_key: 2, ..Priority::default() }));
    }

    #[test]
    fn what_the_mask_names_has_to_be_given() {
        for (name, text) in [
            ("task_queue.name", "TaskQueue is not provided"),
            ("retry_policy", "RetryPolicy is not provided"),
            ("priority.fairness_key", "Priority is not provided"),
        ] {
            let nothing = ActivityOptions::default();
            assert_eq!(merged(nothing.clone(), &nothing, &of(&[name])), Err(text.to_string()));
        }
    }
}
