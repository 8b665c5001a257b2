//! Workflows of the simulation: a script in the input, decided by a pure function of the history.
//!
//! # Contract
//! A script is words: `A` an activity, `F` three at once, `T` and milliseconds a timer, `S` one more signal, `C` a
//! child (that ends, in whatever way); a last word `R` and a number continues as new so many times. [`decide`] looks at the events up to a
//! WorkflowTaskStarted and at nothing else; every activity's input carries a hash of that event, as real workflows
//! carry its time in what they do. So a history whose Started event was rewritten no longer fits its commands.

use std::collections::BTreeSet;

use bristlecone_proto::temporal::api::command::v1::command::Attributes as CommandAttributes;
use bristlecone_proto::temporal::api::command::v1::{
    Command, CompleteWorkflowExecutionCommandAttributes, ContinueAsNewWorkflowExecutionCommandAttributes,
    ScheduleActivityTaskCommandAttributes, StartChildWorkflowExecutionCommandAttributes, StartTimerCommandAttributes,
};
use bristlecone_proto::temporal::api::common::v1::{
    ActivityType, Payload, Payloads, RetryPolicy, WorkflowExecution, WorkflowType,
};
use bristlecone_proto::temporal::api::enums::v1::CommandType;
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;
use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use super::rng::Rng;

pub const QUEUE: &str = "sim";

/// A script of a few steps.
pub fn draw(rng: &mut Rng) -> String {
    let mut words = Vec::new();
    for _ in 0..rng.between(1..=5) {
        words.push(match rng.below(10) {
            0..=3 => "A".to_string(),
            4 => "F".to_string(),
            5 | 6 => format!("T{}", rng.between(50..=5_000)),
            7 | 8 => "S".to_string(),
            _ => "C".to_string(),
        });
    }
    if rng.per_mille(250) {
        words.push(format!("R{}", rng.between(1..=2)));
    }
    words.join(" ")
}

pub fn payload(text: &str) -> Payloads {
    let payload = Payload { data: text.to_string().into(), ..Payload::default() };
    Payloads { payloads: vec![payload] }
}

pub fn text(payloads: Option<&Payloads>) -> String {
    let data = payloads.and_then(|payloads| payloads.payloads.first()).map(|payload| payload.data.to_vec());
    String::from_utf8(data.unwrap_or_default()).unwrap_or_default()
}

pub fn queue() -> TaskQueue {
    TaskQueue { name: QUEUE.to_string(), ..TaskQueue::default() }
}

pub fn millis(ms: u64) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(std::time::Duration::from_millis(ms)).ok()
}

/// The commands that the workflow answers to a history that ends with a WorkflowTaskStarted.
pub fn decide(workflow_id: &str, events: &[HistoryEvent]) -> Vec<Command> {
    let Some(Attributes::WorkflowExecutionStartedEventAttributes(start)) =
        events.first().and_then(|event| event.attributes.as_ref())
    else {
        return Vec::new();
    };
    let script = text(start.input.as_ref());
    let seen = Seen::of(events);
    let mark = events.last().map_or(0, |event| xxh3_64(&event.encode_to_vec()));
    let mut signals_wanted = 0;
    for (step, word) in script.split_whitespace().enumerate() {
        let (kind, number) = word.split_at(1);
        let number: u64 = number.parse().unwrap_or(0);
        match kind {
            "A" | "F" => {
                let ids = (0..if kind == "A" { 1 } else { 3 }).map(|n| format!("a{step}-{n}"));
                let ids: Vec<String> = ids.collect();
                if ids.iter().all(|id| seen.done.contains(id)) {
                    continue;
                }
                let fresh = ids.iter().filter(|id| !seen.begun.contains(*id));
                return fresh.map(|id| activity(id, &format!("{workflow_id} {id} {mark:016x}"))).collect();
            }
            "T" => {
                let id = format!("t{step}");
                match (seen.done.contains(&id), seen.begun.contains(&id)) {
                    (true, _) => continue,
                    (false, true) => return Vec::new(),
                    (false, false) => return vec![timer(&id, number)],
                }
            }
            "C" => {
                let id = format!("{workflow_id}/{}/{step}", start.original_execution_run_id);
                match (seen.done.contains(&id), seen.begun.contains(&id)) {
                    (true, _) => continue,
                    (false, true) => return Vec::new(),
                    (false, false) => return vec![child(&id)],
                }
            }
            "S" => {
                signals_wanted += 1;
                if seen.signals < signals_wanted {
                    return Vec::new();
                }
            }
            "R" if number > 0 => return vec![continue_as_new(&script, number - 1)],
            _ => continue,
        }
    }
    vec![complete(&format!("{} signals", seen.signals))]
}

/// What a command looks like in the history, in a word; and the same of an event.
pub fn command_word(command: &Command) -> String {
    match &command.attributes {
        Some(CommandAttributes::ScheduleActivityTaskCommandAttributes(a)) => {
            format!("activity {} {}", a.activity_id, text(a.input.as_ref()))
        }
        Some(CommandAttributes::StartTimerCommandAttributes(a)) => format!("timer {}", a.timer_id),
        Some(CommandAttributes::StartChildWorkflowExecutionCommandAttributes(a)) => format!("child {}", a.workflow_id),
        Some(CommandAttributes::CompleteWorkflowExecutionCommandAttributes(_)) => "complete".to_string(),
        Some(CommandAttributes::ContinueAsNewWorkflowExecutionCommandAttributes(_)) => "continue".to_string(),
        _ => "other".to_string(),
    }
}

/// The WorkflowTaskCompleted event that an event's command came with, and the command's word.
pub fn event_word(event: &HistoryEvent) -> Option<(i64, String)> {
    match event.attributes.as_ref()? {
        Attributes::ActivityTaskScheduledEventAttributes(a) => {
            let word = format!("activity {} {}", a.activity_id, text(a.input.as_ref()));
            Some((a.workflow_task_completed_event_id, word))
        }
        Attributes::TimerStartedEventAttributes(a) => {
            Some((a.workflow_task_completed_event_id, format!("timer {}", a.timer_id)))
        }
        Attributes::StartChildWorkflowExecutionInitiatedEventAttributes(a) => {
            Some((a.workflow_task_completed_event_id, format!("child {}", a.workflow_id)))
        }
        Attributes::WorkflowExecutionCompletedEventAttributes(a) => {
            Some((a.workflow_task_completed_event_id, "complete".to_string()))
        }
        Attributes::WorkflowExecutionContinuedAsNewEventAttributes(a) => {
            Some((a.workflow_task_completed_event_id, "continue".to_string()))
        }
        _ => None,
    }
}

/// Whether commands end the run, or continue it as new.
pub fn closes(commands: &[Command]) -> bool {
    let ends = [CommandType::CompleteWorkflowExecution, CommandType::ContinueAsNewWorkflowExecution];
    commands.last().is_some_and(|last| ends.contains(&last.command_type()))
}

/// How many signals a history holds.
pub fn signals(events: &[HistoryEvent]) -> u64 {
    Seen::of(events).signals
}

#[derive(Debug, Default)]
struct Seen {
    begun: BTreeSet<String>,
    done: BTreeSet<String>,
    signals: u64,
}

impl Seen {
    fn of(events: &[HistoryEvent]) -> Self {
        let mut seen = Self::default();
        let mut scheduled = std::collections::BTreeMap::new();
        for event in events {
            match &event.attributes {
                Some(Attributes::ActivityTaskScheduledEventAttributes(a)) => {
                    scheduled.insert(event.event_id, a.activity_id.clone());
                    seen.begun.insert(a.activity_id.clone());
                }
                Some(Attributes::ActivityTaskCompletedEventAttributes(a)) => {
                    seen.done.extend(scheduled.get(&a.scheduled_event_id).cloned());
                }
                Some(Attributes::TimerStartedEventAttributes(a)) => {
                    seen.begun.insert(a.timer_id.clone());
                }
                Some(Attributes::TimerFiredEventAttributes(a)) => {
                    seen.done.insert(a.timer_id.clone());
                }
                Some(Attributes::StartChildWorkflowExecutionInitiatedEventAttributes(a)) => {
                    seen.begun.insert(a.workflow_id.clone());
                }
                Some(Attributes::ChildWorkflowExecutionCompletedEventAttributes(a)) => {
                    seen.child_ended(a.workflow_execution.as_ref());
                }
                // After a reset a child may have ended while nobody listened, or was ended to begin anew.
                Some(Attributes::ChildWorkflowExecutionFailedEventAttributes(a)) => {
                    seen.child_ended(a.workflow_execution.as_ref());
                }
                Some(Attributes::ChildWorkflowExecutionTerminatedEventAttributes(a)) => {
                    seen.child_ended(a.workflow_execution.as_ref());
                }
                Some(Attributes::StartChildWorkflowExecutionFailedEventAttributes(a)) => {
                    seen.done.insert(a.workflow_id.clone());
                }
                Some(Attributes::WorkflowExecutionSignaledEventAttributes(_)) => seen.signals += 1,
                _ => {}
            }
        }
        seen
    }

    fn child_ended(&mut self, child: Option<&WorkflowExecution>) {
        self.done.extend(child.map(|child| child.workflow_id.clone()));
    }
}

fn activity(id: &str, input: &str) -> Command {
    let retry = RetryPolicy {
        initial_interval: millis(200),
        backoff_coefficient: 1.5,
        maximum_interval: millis(1_000),
        ..RetryPolicy::default()
    };
    let attributes = ScheduleActivityTaskCommandAttributes {
        activity_id: id.to_string(),
        activity_type: Some(ActivityType { name: "sim".into() }),
        task_queue: Some(queue()),
        input: Some(payload(input)),
        start_to_close_timeout: millis(2_000),
        retry_policy: Some(retry),
        ..ScheduleActivityTaskCommandAttributes::default()
    };
    let attributes = CommandAttributes::ScheduleActivityTaskCommandAttributes(attributes);
    command(CommandType::ScheduleActivityTask, attributes)
}

fn timer(id: &str, ms: u64) -> Command {
    let attributes = StartTimerCommandAttributes { timer_id: id.to_string(), start_to_fire_timeout: millis(ms) };
    command(CommandType::StartTimer, CommandAttributes::StartTimerCommandAttributes(attributes))
}

fn child(id: &str) -> Command {
    let attributes = StartChildWorkflowExecutionCommandAttributes {
        workflow_id: id.to_string(),
        workflow_type: Some(WorkflowType { name: "sim".into() }),
        task_queue: Some(queue()),
        input: Some(payload("A")),
        workflow_task_timeout: millis(3_000),
        ..StartChildWorkflowExecutionCommandAttributes::default()
    };
    let attributes = CommandAttributes::StartChildWorkflowExecutionCommandAttributes(attributes);
    command(CommandType::StartChildWorkflowExecution, attributes)
}

fn continue_as_new(script: &str, left: u64) -> Command {
    let words = script.split_whitespace().filter(|word| !word.starts_with('R'));
    let rest: Vec<String> = words.map(str::to_string).chain([format!("R{left}")]).collect();
    let attributes = ContinueAsNewWorkflowExecutionCommandAttributes {
        workflow_type: Some(WorkflowType { name: "sim".into() }),
        task_queue: Some(queue()),
        input: Some(payload(&rest.join(" "))),
        ..ContinueAsNewWorkflowExecutionCommandAttributes::default()
    };
    let attributes = CommandAttributes::ContinueAsNewWorkflowExecutionCommandAttributes(attributes);
    command(CommandType::ContinueAsNewWorkflowExecution, attributes)
}

fn complete(result: &str) -> Command {
    let attributes = CompleteWorkflowExecutionCommandAttributes { result: Some(payload(result)) };
    let attributes = CommandAttributes::CompleteWorkflowExecutionCommandAttributes(attributes);
    command(CommandType::CompleteWorkflowExecution, attributes)
}

fn command(kind: CommandType, attributes: CommandAttributes) -> Command {
    Command { command_type: kind.into(), attributes: Some(attributes), ..Command::default() }
}
