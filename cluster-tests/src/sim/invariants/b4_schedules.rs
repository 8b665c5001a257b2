//! B-3 and B-4 of schedules: each time that has come is acted on, and on none twice; in order, and none beside another
//! where the overlap policy says so.

use std::collections::BTreeMap;
use std::str::FromStr;

use bristlecone_proto::temporal::api::enums::v1::{EventType, ScheduleOverlapPolicy as Policy};
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use prost_types::Timestamp;

use crate::sim::ledger::Known;
use crate::sim::schedules::{Asked, PREFIX, Span};
use crate::sim::world::World;

/// How far the clock of a leader may be from the right time, and what fractions of seconds there are in ids.
const SLACK_MS: i64 = 2_000;

/// Compares the runs that schedules started with what was asked of them.
pub fn check(world: &World, histories: &BTreeMap<String, Vec<HistoryEvent>>) {
    let mut wrong = Vec::new();
    {
        let known = world.ledger.known.lock();
        for (id, asked) in &known.schedules {
            let runs = runs_by_time(&known, id, histories.keys());
            counts(id, asked, &runs, &mut wrong);
            missing(id, asked, &runs, &mut wrong);
            if asked.policy != Policy::AllowAll {
                order(id, asked, &runs, histories, &known, &mut wrong);
            }
            world.tally.add("scheduled time acted on", runs.len() as u64);
        }
    }
    for what in wrong {
        world.violated(what);
    }
}

/// The runs that a schedule started, by the times in their ids.
fn runs_by_time<'a>(known: &Known, id: &str, all: impl Iterator<Item = &'a String>) -> BTreeMap<i64, Vec<&'a str>> {
    let mut runs: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
    for run_id in all {
        let workflow_id = known.runs.get(run_id).map(|run| run.workflow_id.as_str()).unwrap_or_default();
        let time = workflow_id.strip_prefix(id).and_then(|rest| rest.strip_prefix('-'));
        if let Some(time) = time.and_then(|time| Timestamp::from_str(time).ok()) {
            runs.entry(time.seconds).or_default().push(run_id);
        }
    }
    runs
}

/// Whether the span covers a second, be the clocks as wrong as they may.
fn perhaps(span: &Span, second: i64) -> bool {
    span.from - SLACK_MS <= second * 1_000 && second * 1_000 <= span.to.saturating_add(SLACK_MS)
}

/// Whether the span covers a second for certain.
fn surely(span: &Span, second: i64) -> bool {
    span.from + SLACK_MS < second * 1_000 && second * 1_000 < span.to - SLACK_MS
}

/// Whether the schedule may act on a time by itself.
fn is_due(asked: &Asked, second: i64) -> bool {
    let life = Span { from: asked.created.from, to: asked.deleted.map_or(i64::MAX, |deleted| deleted.to) };
    let paused = asked.paused.iter().any(|span| surely(span, second));
    second % asked.every_s == 0 && perhaps(&life, second) && !paused
}

fn counts(id: &str, asked: &Asked, runs: &BTreeMap<i64, Vec<&str>>, wrong: &mut Vec<String>) {
    for (second, runs) in runs {
        let triggers = asked.triggers.iter().filter(|span| perhaps(span, *second)).count();
        let past = asked.past.as_ref().is_some_and(|(times, _)| times.contains(second));
        let most = triggers + usize::from(is_due(asked, *second)) + usize::from(past);
        if runs.len() > most {
            wrong.push(format!("B-4: the schedule {id} acted on {second} {} times, {most} are right", runs.len()));
        }
    }
}

fn missing(id: &str, asked: &Asked, runs: &BTreeMap<i64, Vec<&str>>, wrong: &mut Vec<String>) {
    let mut lacks = |second: i64, what: &str| wrong.push(format!("B-3: the schedule {id} lacks {what} {second}"));
    // What waits when a schedule is paused is dropped.
    let takes_all = match asked.policy {
        Policy::AllowAll => true,
        Policy::BufferAll => asked.perhaps_paused.is_empty(),
        _ => false,
    };
    if takes_all && let Some(decided) = asked.decided {
        let first = (asked.created.to.saturating_add(SLACK_MS) / 1_000) / asked.every_s + 1;
        let times = (first..).map(|number| number * asked.every_s).take_while(|second| *second < decided);
        let paused = |second: &i64| asked.perhaps_paused.iter().any(|span| perhaps(span, *second));
        for second in times.filter(|second| !paused(second) && !runs.contains_key(second)) {
            lacks(second, "the time");
        }
    }
    if let Some((times, true)) = &asked.past {
        for second in times.iter().filter(|second| !runs.contains_key(second)) {
            lacks(*second, "the past time");
        }
    }
    for trigger in asked.triggers.iter().filter(|trigger| trigger.to < i64::MAX) {
        if !runs.keys().any(|second| perhaps(trigger, *second)) {
            lacks(trigger.from / 1_000, "the trigger at");
        }
    }
}

/// Where one action waits for another, or gives way to it: none begins before the one before it has ended.
fn order(
    id: &str,
    asked: &Asked,
    runs: &BTreeMap<i64, Vec<&str>>,
    histories: &BTreeMap<String, Vec<HistoryEvent>>,
    known: &Known,
    wrong: &mut Vec<String>,
) {
    // Triggers and backfills run beside everything.
    let own = runs
        .iter()
        .filter(|(second, _)| is_due(asked, **second) && !asked.triggers.iter().any(|span| perhaps(span, **second)));
    let own: Vec<(&i64, &str)> = own.filter_map(|(second, runs)| Some((second, *runs.first()?))).collect();
    for pair in own.windows(2) {
        let [(first, one), (second, other)] = pair else { continue };
        // Seen to have begun, before the task was sent that ended the one before.
        let begun = known.runs.get(*other).and_then(|run| run.shown.get(&1));
        let last = histories.get(*one).and_then(|events| {
            let started = events.iter().rev().find(|event| event.event_type() == EventType::WorkflowTaskStarted);
            started.map(|event| event.event_id)
        });
        let ended = last.and_then(|last| known.sent.get(&(one.to_string(), last)));
        if let (Some(begun), Some(ended)) = (begun, ended)
            && begun < ended
        {
            wrong.push(format!("B-4: the schedule {id} acted on {second} while {first} ran, which {:?}", asked.policy));
        }
    }
}

/// Whether a workflow was started by a schedule.
pub fn is_scheduled(workflow_id: &str) -> bool {
    workflow_id.starts_with(PREFIX)
}
