//! The commands of scripts. The workflow id is `wf` unless `id=` says otherwise.
//!
//! | command | does |
//! |---|---|
//! | `advance 5s` | lets time go by |
//! | `wake`, `failover`, `limit name=value` | wakes the chain; forgets what is in memory only; changes a limit |
//! | `start`, `signal-with-start`, `signal`, `cancel`, `terminate`, `delete`, `purge` | clients |
//! | `raze` | the chain's namespace is gone |
//! | `update u1 [wait=accepted]`, `poll-update u1`, `update-with-start u1` | clients; the script sees the first answer, and later what the step tells of updates |
//! | `reset event=4 [exclude=signal,update]` | a client |
//! | `create-schedule s`, `update-schedule s`, `patch-schedule s`, `describe-schedule s`, `matching-times s`, `delete-schedule s` | clients, of the schedule `s` (`schedules.rs`) |
//! | `describe`, `history`, `query`, `reset-sticky` | clients |
//! | `take q as=p1 [sticky]`, `undo p1`, `harden`, `sticky-unavailable` | a poll takes the workflow task of a queue (`poll=`: polling another) |
//! | `complete p1`, `fail p1` | the worker answers; indented lines are its commands (`worker.rs`) |
//! | `take-activity q as=a1`, `undo-activity a1` | a poll takes the activity task of a queue |
//! | `activity-complete a1`, `activity-fail a1`, `activity-cancel a1`, `heartbeat a1` | the worker answers; `activity=` instead of the poll: by id |
//! | `pause-activity activity=1`, `unpause-activity`, `reset-activity`, `activity-options mask=heartbeatTimeout` | an operator; `type=` instead of `activity=` |
//! | `rule slow type=Work`, `no-rule slow` | an operator makes a workflow rule, and removes it (`rules.rs`) |
//! | `pause`, `unpause`, `options mask=priority priority=1` | an operator, of the whole workflow; `pin=name.build` or `auto-upgrade` for the mask `versioning_override` |
//! | `start-standalone standalone=a`, `describe-standalone`, `cancel-standalone`, `terminate-standalone`, `delete-standalone` | clients of standalone activities (`standalone.rs`) |
//! | `deliver` | delivers outbox rows and their answers until none is left |
//! | `deliver-only wf`, `answer-only`, `forget` | delivers the oldest row of a chain (`to=`: to that one); hands its answer back; tells the receiver that the row is gone |

mod clients;
mod rules;
mod schedules;
mod standalone;
mod worker;

use std::collections::BTreeMap;

use bristlecone_machine::row::{TaskKey, TaskKind};
use bristlecone_proto::chain::{
    ActivityStarted, Answer, Forget, Harden, Poll, Purge, Raze, StartActivity, StartWorkflowTask, StickyUnavailable,
    UndoActivityStart, UndoWorkflowTaskStart, WorkflowTaskStarted, WorkflowTaskToken, input, reply,
};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::{Payload, Payloads, WorkflowExecution};
use bristlecone_proto::temporal::api::enums::v1::TaskQueueKind;
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;
use bristlecone_proto::temporal::api::update::v1::{Input as UpdateInput, Meta, Request};
use bytes::Bytes;
use prost::Message;
use prost_types::Duration;

use self::standalone::chain_of;
use super::{Line, Step, span};
use crate::shell::print::{self, Names};
use crate::shell::{Outcome, SECOND, Shell, chain_id, of};

#[derive(Debug, Default)]
pub struct Commands {
    shell: Shell,
    names: Names,
    /// What polls got, by the name that the script gave them.
    tasks: BTreeMap<String, WorkflowTaskToken>,
    activities: BTreeMap<String, ActivityStarted>,
    requests: u32,
    /// The last message that was delivered by itself: sender, target, answer.
    delivered: Option<(String, String, Answer)>,
}

impl Commands {
    pub fn run(&mut self, step: &Step, script: &str) -> String {
        let line = &step.command;
        match line.name() {
            "advance" => {
                self.shell.now += span(line.what()).unwrap_or_else(|| panic!("{script}: no time: {line:?}"));
                format!("{}\n", print::time(self.shell.now))
            }
            "failover" => {
                self.shell.fail_over();
                "forgotten\n".into()
            }
            "limit" => self.limit(line),
            "rule" | "no-rule" => {
                self.rule(line);
                "set\n".into()
            }
            "patience" => {
                let nanos = span(line.what()).unwrap_or_else(|| panic!("{script}: no time: {line:?}"));
                self.shell.caller_timeout_ms = (nanos / 1_000_000) as u64;
                "set\n".into()
            }
            "deliver" => self.deliver(),
            "deliver-only" => self.deliver_only(line),
            "answer-only" => {
                let (sender, _, answer) = self.delivered.clone().expect("a message was delivered");
                let outcome = self.shell.send(&sender, of(input::Kind::Answer(answer)));
                print::outcome(&outcome, &mut self.names)
            }
            "forget" => {
                let (sender, target, answer) = self.delivered.clone().expect("a message was delivered");
                let forget = Forget { sender: Some(chain_id(&sender)), sequence: answer.sequence };
                let outcome = self.shell.send(&target, of(input::Kind::Forget(forget)));
                print::outcome(&outcome, &mut self.names)
            }
            _ => {
                let kind = self.input(step).unwrap_or_else(|| panic!("{script}: unknown command {line:?}"));
                let chain = schedules::chain_of(line).unwrap_or_else(|| chain_of(line));
                let outcome = self.shell.send(&chain, of(kind));
                self.remember(line, &outcome);
                print::outcome(&outcome, &mut self.names)
            }
        }
    }

    fn input(&mut self, step: &Step) -> Option<input::Kind> {
        let line = &step.command;
        let other = self.standalone_input(line).or_else(|| self.schedule_input(line));
        if let Some(kind) = other.or_else(|| self.client_input(line)) {
            return Some(kind);
        }
        Some(match line.name() {
            "wake" => input::Kind::Wake(bristlecone_proto::chain::Wake {}),
            "harden" => input::Kind::Harden(Harden { run_id: self.names.id(&line.or("run", "")) }),
            "purge" => input::Kind::Purge(Purge { run_id: self.names.id(&line.or("run", "")) }),
            "raze" => input::Kind::Raze(Raze {}),
            "take" => self.take(line),
            "undo" => {
                let token = self.tasks.get(line.what()).expect("a poll of that name").clone();
                input::Kind::UndoWorkflowTaskStart(UndoWorkflowTaskStart {
                    run_id: token.run_id,
                    scheduled_event_id: token.scheduled_event_id,
                    request_id: line.what().into(),
                })
            }
            "sticky-unavailable" => {
                let (key, task) = self.offered(line, TaskKind::Workflow);
                input::Kind::StickyUnavailable(StickyUnavailable {
                    run_id: key.run_id,
                    scheduled_event_id: key.scheduled_event_id,
                    attempt: task.attempt,
                })
            }
            "complete" => self.complete(step),
            "fail" => self.fail(line),
            "take-activity" => self.take_activity(line),
            "undo-activity" => {
                let started = self.activities.get(line.what()).expect("a poll of that name");
                let token = started.token.clone().expect("a started activity has a token");
                input::Kind::UndoActivityStart(UndoActivityStart {
                    run_id: token.run_id,
                    scheduled_event_id: token.scheduled_event_id,
                    attempt: token.attempt,
                    request_id: line.what().into(),
                })
            }
            "activity-complete" => self.complete_activity(line),
            "activity-fail" => self.fail_activity(line),
            "activity-cancel" => self.cancel_activity(line),
            "heartbeat" => self.heartbeat(line),
            _ => return None,
        })
    }

    /// The task that waits in the backlog of the queue that is the second word; `task=` picks one by the
    /// id of its scheduled event.
    fn offered(&self, line: &Line, kind: TaskKind) -> (TaskKey, record::Task) {
        let tasks = self.shell.offered(&chain_of(line));
        let wanted = line.number("task");
        let found = tasks.iter().find(|(key, _)| {
            key.kind == kind
                && key.queue == line.what()
                && wanted.is_none_or(|scheduled| key.scheduled_event_id == scheduled)
        });
        let (key, task) = found.unwrap_or_else(|| panic!("no task for {line:?}: {tasks:?}"));
        (key.clone(), task.clone())
    }

    fn poll(&self, line: &Line) -> Poll {
        let kind = if line.has("sticky") { TaskQueueKind::Sticky } else { TaskQueueKind::Normal };
        Poll {
            node_id: 1,
            poll_id: 1,
            request_id: line.or("request", line.value("as").unwrap_or("poll")),
            identity: line.or("identity", "worker"),
            queue: Some(TaskQueue { name: line.or("poll", line.what()), kind: kind.into(), ..TaskQueue::default() }),
            ..Poll::default()
        }
    }

    /// `again=p1` claims the task of an earlier poll once more.
    fn take(&mut self, line: &Line) -> input::Kind {
        let poll = Some(self.poll(line));
        if let Some(token) = line.value("again").map(|name| self.tasks[name].clone()) {
            let (run_id, scheduled_event_id) = (token.run_id, token.scheduled_event_id);
            let (attempt, stamp) = (token.attempt, token.stamp);
            return input::Kind::StartWorkflowTask(StartWorkflowTask {
                run_id,
                scheduled_event_id,
                attempt,
                stamp,
                poll,
            });
        }
        let (key, task) = self.offered(line, TaskKind::Workflow);
        input::Kind::StartWorkflowTask(StartWorkflowTask {
            run_id: key.run_id,
            scheduled_event_id: key.scheduled_event_id,
            attempt: task.attempt,
            stamp: task.stamp,
            poll,
        })
    }

    fn take_activity(&mut self, line: &Line) -> input::Kind {
        let poll = Some(self.poll(line));
        let (key, task) = self.offered(line, TaskKind::Activity);
        input::Kind::StartActivity(StartActivity {
            run_id: key.run_id,
            scheduled_event_id: key.scheduled_event_id,
            attempt: task.attempt,
            stamp: task.stamp,
            poll,
        })
    }

    /// Keeps the tokens that workers got.
    fn remember(&mut self, line: &Line, outcome: &Outcome) {
        let name = line.or("as", "poll");
        match &outcome.reply.kind {
            Some(reply::Kind::WorkflowTaskStarted(started)) => self.keep_task(&name, started),
            Some(reply::Kind::ActivityStarted(started)) => {
                self.activities.insert(name, (**started).clone());
            }
            Some(reply::Kind::WorkflowTaskCompleted(completed)) => {
                if let Some(next) = &completed.next {
                    self.keep_task(&name, next);
                }
                for started in &completed.eager_activities {
                    let id = started.token.as_ref().map(|token| token.activity_id.clone()).unwrap_or_default();
                    self.activities.insert(id, started.clone());
                }
            }
            Some(reply::Kind::Start(started)) => {
                if let Some(task) = &started.eager_workflow_task {
                    let token = WorkflowTaskToken::decode(task.task_token.clone()).expect("a token of the core");
                    self.tasks.insert(name, token);
                }
            }
            _ => {}
        }
    }

    fn keep_task(&mut self, name: &str, started: &WorkflowTaskStarted) {
        self.tasks.insert(name.to_string(), started.token.clone().expect("a started task has a token"));
    }

    fn deliver(&mut self) -> String {
        const ROUNDS_MAX: usize = 100;
        let mut out = String::new();
        for _ in 0..ROUNDS_MAX {
            let Some((sender, sequence, _)) = self.shell.outbox().into_iter().next() else { return out };
            let (target, outcome) = self.shell.deliver(&sender, sequence);
            out.push_str(&format!("{sender} ⇒ {target}\n{}", print::outcome(&outcome, &mut self.names)));
            let outcome = self.shell.answer(&sender, sequence, &target, outcome.reply);
            out.push_str(&format!("{target} answers {sender}\n{}", print::outcome(&outcome, &mut self.names)));
        }
        panic!("messages without end:\n{out}");
    }

    fn deliver_only(&mut self, line: &Line) -> String {
        let fits = |(sender, _, target): &(String, u64, String)| {
            sender == line.what() && line.value("to").is_none_or(|wanted| wanted == target)
        };
        let (sender, sequence, _) = self.shell.outbox().into_iter().find(fits).expect("a row waits");
        let run_id = self.shell.chain(&sender).and_then(|chain| Some(chain.sends.get(&sequence)?.run_id.clone()));
        let (target, outcome) = self.shell.deliver(&sender, sequence);
        let reply = Some(outcome.reply.clone().into());
        let answer = Answer { sequence, run_id: run_id.unwrap_or_default(), reply };
        let printed = format!("{sender} ⇒ {target}\n{}", print::outcome(&outcome, &mut self.names));
        self.delivered = Some((sender, target, answer));
        printed
    }

    fn limit(&mut self, line: &Line) -> String {
        let (name, value) = line.what().split_once('=').expect("name=value");
        let number: i64 = value.parse().expect("a number");
        let limits = &mut self.shell.limits;
        match name {
            "signals_max" => limits.signals_max = number,
            "buffered_events_max" => limits.buffered_events_max = number,
            "blob_bytes_max" => limits.blob_bytes_max = number as usize,
            "memo_bytes_max" => limits.memo_bytes_max = number as usize,
            "history_events_suggest" => limits.history_events_suggest = number,
            "history_events_max" => limits.history_events_max = number,
            "history_bytes_max" => limits.history_bytes_max = number,
            "state_bytes_max" => limits.state_bytes_max = number,
            "transaction_bytes_max" => limits.transaction_bytes_max = number,
            "callbacks_max" => limits.callbacks_max = number as usize,
            "updates_in_flight_max" => limits.updates_in_flight_max = number as usize,
            "updates_in_flight_bytes_max" => limits.updates_in_flight_bytes_max = number as usize,
            "updates_max" => limits.updates_max = number as usize,
            "updates_suggest" => limits.updates_suggest = number as u32,
            "pending_activities_max" => limits.pending_activities_max = number as usize,
            "pending_children_max" => limits.pending_children_max = number as usize,
            "pending_signals_max" => limits.pending_signals_max = number as usize,
            "pending_cancels_max" => limits.pending_cancels_max = number as usize,
            "eager_activities" => limits.eager_activities = number != 0,
            "activity_failure_bytes_max" => limits.activity_failure_bytes_max = number as usize,
            other => panic!("unknown limit {other}"),
        }
        "set\n".into()
    }

    fn execution(&self, line: &Line) -> Option<WorkflowExecution> {
        Some(WorkflowExecution { workflow_id: chain_of(line), run_id: self.names.id(&line.or("run", "")) })
    }

    fn request_id(&mut self, line: &Line) -> String {
        self.requests += 1;
        line.value("request").map_or_else(|| format!("request-{}", self.requests), str::to_string)
    }
}

/// JSON; nothing for an empty text.
pub fn payload(text: &str) -> Payload {
    let encoding: &'static [u8] = if text.is_empty() { b"binary/null" } else { b"json/plain" };
    let encoding = ("encoding".to_string(), Bytes::from_static(encoding));
    Payload { metadata: [encoding].into(), data: Bytes::from(text.to_string()), ..Payload::default() }
}

pub fn update_request(id: &str, args: Option<&str>) -> Request {
    Request {
        meta: Some(Meta { update_id: id.into(), identity: "client".into() }),
        input: Some(UpdateInput { name: "up".into(), args: payloads(args), ..UpdateInput::default() }),
        ..Request::default()
    }
}

pub fn payloads(text: Option<&str>) -> Option<Payloads> {
    text.map(|text| Payloads { payloads: vec![payload(text)] })
}

pub fn duration(nanos: Option<i64>) -> Option<Duration> {
    nanos.map(|nanos| Duration { seconds: nanos / SECOND, nanos: (nanos % SECOND) as i32 })
}
