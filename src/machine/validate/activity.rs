//! What a scheduled activity asks for: its names, timeouts and retry policy, made complete.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

use bristlecone_proto::temporal::api::command::v1::ScheduleActivityTaskCommandAttributes;
use prost_types::Duration;

use super::{duration, priority, retry_policy, task_queue};
use crate::stamp::{self, Limits};

/// The command with every timeout and the retry policy filled in, or what is wrong with it.
///
/// `run_timeout` (nanoseconds, 0: none) caps every timeout.
pub(crate) fn complete(
    command: &ScheduleActivityTaskCommandAttributes,
    run_timeout: i64,
    workflow_queue: &str,
    limits: &Limits,
) -> Result<ScheduleActivityTaskCommandAttributes, String> {
    let mut command = command.clone();
    command.task_queue = Some(task_queue(command.task_queue.as_ref(), workflow_queue, limits)?);
    let activity_type = command.activity_type.as_ref().map_or("", |t| t.name.as_str());
    if command.activity_id.is_empty() {
        return Err("activityId is not set".to_owned());
    }
    if activity_type.is_empty() {
        return Err("activityType is not set".to_owned());
    }
    command.retry_policy = Some(retry_policy::complete(&command.retry_policy.unwrap_or_default())?);
    for (value, what) in [(command.activity_id.as_str(), "activityId"), (activity_type, "activityType")] {
        if value.len() > limits.id_bytes_max {
            let (length, limit) = (value.len(), limits.id_bytes_max);
            return Err(format!("{what} exceeds length limit. Length={length} Limit={limit}"));
        }
    }
    priority(command.priority.as_ref()).map_err(|error| format!("invalid priorities: {error}"))?;

    let timeouts = Timeouts {
        schedule_to_close: checked(command.schedule_to_close_timeout.as_ref(), "ScheduleToCloseTimeout")?,
        schedule_to_start: checked(command.schedule_to_start_timeout.as_ref(), "ScheduleToStartTimeout")?,
        start_to_close: checked(command.start_to_close_timeout.as_ref(), "StartToCloseTimeout")?,
        heartbeat: checked(command.heartbeat_timeout.as_ref(), "HeartbeatTimeout")?,
    };
    let Some(timeouts) = timeouts.complete(run_timeout) else {
        return Err(format!(
            "a valid StartToClose or ScheduleToCloseTimeout is not set on ScheduleActivityTaskCommand. \
             ActivityId={} ActivityType={activity_type}",
            command.activity_id
        ));
    };
    // All four are always present: some SDKs rely on it.
    command.schedule_to_close_timeout = Some(stamp::duration(timeouts.schedule_to_close));
    command.schedule_to_start_timeout = Some(stamp::duration(timeouts.schedule_to_start));
    command.start_to_close_timeout = Some(stamp::duration(timeouts.start_to_close));
    command.heartbeat_timeout = Some(stamp::duration(timeouts.heartbeat));
    Ok(command)
}

fn checked(timeout: Option<&Duration>, what: &str) -> Result<i64, String> {
    let timeout = duration(timeout).map_err(|error| format!("invalid {what}: {error}"))?;
    Ok(stamp::duration_nanos(timeout.as_ref()))
}

/// Nanoseconds; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Timeouts {
    schedule_to_close: i64,
    schedule_to_start: i64,
    start_to_close: i64,
    heartbeat: i64,
}

impl Timeouts {
    /// Fills in what is missing from what is there; `None` when nothing says how long the activity may take.
    fn complete(mut self, run_timeout: i64) -> Option<Self> {
        if self.schedule_to_close > 0 {
            self.schedule_to_start = at_most(self.schedule_to_start, self.schedule_to_close);
            self.start_to_close = at_most(self.start_to_close, self.schedule_to_close);
        } else if self.start_to_close > 0 {
            self.schedule_to_close = run_timeout;
            if self.schedule_to_start == 0 {
                self.schedule_to_start = run_timeout;
            }
        } else {
            return None;
        }
        if run_timeout > 0 {
            self.schedule_to_close = self.schedule_to_close.min(run_timeout);
            self.schedule_to_start = self.schedule_to_start.min(run_timeout);
            self.start_to_close = self.start_to_close.min(run_timeout);
        }
        self.heartbeat = self.heartbeat.min(self.start_to_close);
        Some(self)
    }
}

/// The timeout, or the limit when there is none or it is longer.
fn at_most(timeout: i64, limit: i64) -> i64 {
    if timeout == 0 { limit } else { timeout.min(limit) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use bristlecone_proto::temporal::api::common::v1::ActivityType;
    use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;

    fn timeouts(schedule_to_close: i64, schedule_to_start: i64, start_to_close: i64, heartbeat: i64) -> Timeouts {
        Timeouts { schedule_to_close, schedule_to_start, start_to_close, heartbeat }
    }

    #[test]
    fn missing_timeouts_follow_from_the_others() {
        let cases = [
            // Given, run timeout, completed.
            (timeouts(9, 0, 0, 0), 0, Some(timeouts(9, 9, 9, 0))),
            (timeouts(9, 20, 20, 20), 0, Some(timeouts(9, 9, 9, 9))),
            (timeouts(9, 2, 3, 1), 0, Some(timeouts(9, 2, 3, 1))),
            (timeouts(0, 0, 3, 0), 0, Some(timeouts(0, 0, 3, 0))),
            (timeouts(0, 0, 3, 5), 7, Some(timeouts(7, 7, 3, 3))),
            (timeouts(0, 20, 30, 0), 7, Some(timeouts(7, 7, 7, 0))),
            (timeouts(0, 4, 0, 4), 7, None),
        ];
        for (given, run, completed) in cases {
            assert_eq!(given.complete(run), completed, "{given:?} in a run of {run}");
        }
    }

    #[test]
    fn a_command_is_completed() {
        let limits = Limits::default();
        let command = ScheduleActivityTaskCommandAttributes {
            activity_id: "1".to_string(),
            activity_type: Some(ActivityType { name: "T".to_string() }),
            task_queue: Some(TaskQueue::default()),
            start_to_close_timeout: Some(Duration { seconds: 5, nanos: 0 }),
            ..ScheduleActivityTaskCommandAttributes::default()
        };
        let completed = complete(&command, 0, "queue", &limits).expect("the command is valid");
        assert_eq!(completed.task_queue.as_ref().map(|queue| queue.name.as_str()), Some("queue"));
        assert_eq!(completed.schedule_to_close_timeout, Some(Duration::default()));
        assert_eq!(completed.retry_policy.map(|policy| policy.backoff_coefficient), Some(2.0));

        let without = ScheduleActivityTaskCommandAttributes { start_to_close_timeout: None, ..command.clone() };
        assert_eq!(
            complete(&without, 0, "queue", &limits),
            Err("a valid StartToClose or ScheduleToCloseTimeout is not set on ScheduleActivityTaskCommand. \
                 ActivityId=1 ActivityType=T"
                .to_string())
        );
        let negative = Some(Duration { seconds: -5, nanos: 0 });
        let negative = ScheduleActivityTaskCommandAttributes { heartbeat_timeout: negative, ..command.clone() };
        assert_eq!(
            complete(&negative, 0, "queue", &limits),
            Err("invalid HeartbeatTimeout: negative duration".to_string())
        );
        let long = ScheduleActivityTaskCommandAttributes { activity_id: "1".repeat(1001), ..command };
        assert_eq!(
            complete(&long, 0, "queue", &limits),
            Err("activityId exceeds length limit. Length=1001 Limit=1000".to_string())
        );
    }
}
