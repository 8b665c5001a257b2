//! Workflow rules of a namespace: which pending activities they pause.
//!
//! # Contract
//! A rule comes with the stamp of each input, read already ([`Rule`]); what it says is decided here, whenever an
//! attempt is about to begin: when a worker would get it, when its backoff is over, and, of the next attempt, when
//! one has failed. Rules say nothing of attempts that are in a worker's hands, and nothing of standalone activities.
//!
//! A part of a condition that makes no sense ([`Condition::Senseless`]) keeps the rule from applying, once it is
//! reached: conditions are tested from left to right until the outcome is known.
//!
//! # Used by
//! `activity/` (attempts), `describe.rs` (who paused); the metadata's view makes the rules.

use alloc::string::String;
use alloc::vec::Vec;

use bristlecone_proto::record;

use crate::activity::is_started;
use crate::chain::Run;
use crate::command::camel;
use crate::draft::Draft;
use crate::stamp::{UnixNanos, nanos};
use crate::{fold, stamp, standalone};

/// A rule that an operator made.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub id: String,
    /// Who made it, and why.
    pub identity: String,
    pub description: String,
    /// From then on it does not apply.
    pub expires: Option<UnixNanos>,
    /// Whether it pauses what it applies to: rules do nothing else as yet.
    pub pauses: bool,
    /// Of the workflow; `None`: of all workflows.
    pub workflow: Option<Condition>,
    /// Of the activity.
    pub activity: Condition,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Test(Field, Is),
    /// Something that is not asked of this field, or no field at all.
    Senseless,
}

/// What a condition may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    WorkflowId,
    WorkflowType,
    ExecutionStatus,
    StartTime,
    ActivityId,
    ActivityType,
    ActivityState,
    Attempts,
    /// Seconds between the last attempt and this one, of an attempt that is not the first.
    BackoffInterval,
    TaskQueue,
    StartedTime,
}

/// Numbers are also times, in Unix nanoseconds.
#[derive(Debug, Clone, PartialEq)]
pub enum Is {
    Text(Compare, String),
    Number(Compare, i64),
    Between { from: i64, to: i64, not: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    StartsWith,
    NotStartsWith,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
enum Value<'a> {
    Text(&'a str),
    Name(String),
    Number(i64),
    /// It has none: no test of it holds.
    Missing,
}

/// The id of a rule that pauses the activity before its next attempt, if there is one.
pub(crate) fn pauses(draft: &Draft<'_>, run_id: &str, activity: &record::Activity) -> Option<String> {
    let rules = &draft.at().namespace.rules;
    if rules.is_empty() || activity.paused || standalone::is_standalone(draft.id()) {
        return None;
    }
    let run = draft.run(run_id);
    let applies = |rule: &&Rule| {
        let current = rule.expires.is_none_or(|at| at >= draft.now());
        let holds = |condition: &Condition| condition.holds(run, activity) == Some(true);
        rule.pauses && current && rule.workflow.as_ref().is_none_or(holds) && holds(&rule.activity)
    };
    rules.iter().find(applies).map(|rule| rule.id.clone())
}

/// Pauses an activity because a rule says so. The transition must have begun.
pub(crate) fn pause(draft: &mut Draft<'_>, run_id: &str, scheduled_event_id: i64, rule_id: String) {
    let now = stamp::timestamp(draft.now());
    let run = draft.run_mut(run_id);
    let Some(activity) = run.activities.get_mut(&scheduled_event_id) else { return };
    if !is_started(activity) {
        activity.stamp = activity.stamp.wrapping_add(1);
    }
    activity.paused = true;
    activity.paused_time = Some(now);
    activity.paused_by_rule = rule_id;
    activity.offered = false;
    fold::activity::note_pauses(run);
}

/// As [`pauses`] and [`pause`] together: says whether the activity is paused now by a rule. The transition must have
/// begun.
pub(crate) fn paused(draft: &mut Draft<'_>, run_id: &str, scheduled_event_id: i64) -> bool {
    let Some(activity) = draft.run(run_id).activities.get(&scheduled_event_id) else { return false };
    let Some(rule_id) = pauses(draft, run_id, activity) else { return false };
    pause(draft, run_id, scheduled_event_id, rule_id);
    true
}

impl Condition {
    /// `None`: what was reached of it makes no sense.
    fn holds(&self, run: &Run, activity: &record::Activity) -> Option<bool> {
        match self {
            Self::And(all) => {
                for one in all {
                    if !one.holds(run, activity)? {
                        return Some(false);
                    }
                }
                Some(true)
            }
            Self::Or(any) => {
                for one in any {
                    if one.holds(run, activity)? {
                        return Some(true);
                    }
                }
                Some(false)
            }
            Self::Test(field, is) => is.holds(&field.of(run, activity)),
            Self::Senseless => None,
        }
    }
}

impl Field {
    fn of<'a>(self, run: &'a Run, activity: &'a record::Activity) -> Value<'a> {
        match self {
            Self::WorkflowId => Value::Text(&run.started.workflow_id),
            Self::WorkflowType => Value::Text(run.started.workflow_type.as_ref().map_or("", |t| &t.name)),
            Self::ExecutionStatus => {
                let name = run.head.status().as_str_name().trim_start_matches("WORKFLOW_EXECUTION_STATUS_");
                Value::Name(camel(name))
            }
            Self::StartTime => Value::Number(run.start_time),
            Self::ActivityId => Value::Text(&activity.activity_id),
            Self::ActivityType => Value::Text(&activity.activity_type),
            Self::ActivityState => Value::Text(state(activity)),
            Self::Attempts => Value::Number(i64::from(activity.attempt)),
            Self::BackoffInterval => backoff_seconds(activity).map_or(Value::Missing, Value::Number),
            Self::TaskQueue => Value::Text(&activity.task_queue),
            Self::StartedTime => Value::Number(activity.started_time.as_ref().map_or(0, nanos)),
        }
    }
}

fn state(activity: &record::Activity) -> &'static str {
    match (is_started(activity), activity.cancel_requested) {
        (true, _) => "Started",
        (false, true) => "CancelRequested",
        (false, false) => "Scheduled",
    }
}

fn backoff_seconds(activity: &record::Activity) -> Option<i64> {
    const SECOND: i64 = 1_000_000_000;
    let (scheduled, ended) = (activity.scheduled_time.as_ref()?, activity.last_attempt_complete_time.as_ref()?);
    (activity.attempt > 1).then(|| nanos(scheduled).saturating_sub(nanos(ended)) / SECOND)
}

impl Is {
    fn holds(&self, value: &Value<'_>) -> Option<bool> {
        let text = match value {
            Value::Missing => return Some(false),
            Value::Number(number) => {
                return match self {
                    Self::Number(compare, wanted) => compare.numbers(*number, *wanted),
                    Self::Between { from, to, not } => Some((from <= number && number <= to) != *not),
                    Self::Text(..) => None,
                };
            }
            Value::Text(text) => *text,
            Value::Name(name) => name,
        };
        match self {
            Self::Text(compare, wanted) => compare.texts(text, wanted),
            Self::Number(..) | Self::Between { .. } => None,
        }
    }
}

impl Compare {
    fn texts(self, value: &str, wanted: &str) -> Option<bool> {
        match self {
            Self::Equal => Some(value == wanted),
            Self::NotEqual => Some(value != wanted),
            Self::StartsWith => Some(value.starts_with(wanted)),
            Self::NotStartsWith => Some(!value.starts_with(wanted)),
            Self::Less | Self::LessEqual | Self::Greater | Self::GreaterEqual => None,
        }
    }

    fn numbers(self, value: i64, wanted: i64) -> Option<bool> {
        match self {
            Self::Equal => Some(value == wanted),
            Self::NotEqual => Some(value != wanted),
            Self::Less => Some(value < wanted),
            Self::LessEqual => Some(value <= wanted),
            Self::Greater => Some(value > wanted),
            Self::GreaterEqual => Some(value >= wanted),
            Self::StartsWith | Self::NotStartsWith => None,
        }
    }
}
