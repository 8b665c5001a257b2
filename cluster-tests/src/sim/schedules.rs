//! Schedules: a client creates one, triggers it, pauses it, has it make up for the past, and deletes it.
//!
//! # Contract
//! The times of a schedule are the multiples of its interval, and a workflow that it starts is named after the time.
//! So what it may have done, and what it must have, follows from when each call was sent and when it was answered;
//! `invariants/b4_schedules.rs` compares.

use std::sync::Arc;
use std::time::Duration;

use bristlecone_proto::temporal::api::common::v1::WorkflowType;
use bristlecone_proto::temporal::api::enums::v1::ScheduleOverlapPolicy as Policy;
use bristlecone_proto::temporal::api::schedule::v1::{
    BackfillRequest, IntervalSpec, Schedule, ScheduleAction, SchedulePatch, SchedulePolicies, ScheduleSpec,
    TriggerImmediatelyRequest, schedule_action,
};
use bristlecone_proto::temporal::api::workflow::v1::NewWorkflowExecutionInfo;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    CreateScheduleRequest, DeleteScheduleRequest, DescribeScheduleRequest, DescribeScheduleResponse,
    PatchScheduleRequest,
};
use prost_types::Timestamp;
use tokio::time::sleep;
use tonic::{Code, Request, Response, Status};

use super::clients::NAMESPACE;
use super::clock;
use super::rng::Rng;
use super::script;
use super::wire::Service;
use super::worker::is_passing;
use super::world::World;

const CALL_TIME: Duration = Duration::from_secs(5);
/// Of the ids of the workflows that schedules start.
pub const PREFIX: &str = "sch-";
/// How long before the beginning of the world the past lies that is made up for, in seconds, and how many times.
const PAST_S: i64 = 3_600;
const PAST_TIMES: i64 = 3;

/// From when a call was sent to when it was answered, in milliseconds of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from: i64,
    /// For ever, while there is no answer.
    pub to: i64,
}

/// What was asked of a schedule.
#[derive(Debug, Clone)]
pub struct Asked {
    pub every_s: i64,
    pub policy: Policy,
    pub created: Span,
    pub deleted: Option<Span>,
    pub triggers: Vec<Span>,
    /// Times in the past that it was to make up for, and whether that was acknowledged.
    pub past: Option<(Vec<i64>, bool)>,
    /// Pauses: from the call that paused to the answer of the one that ended it; and between, when it surely was paused.
    pub perhaps_paused: Vec<Span>,
    pub paused: Vec<Span>,
    /// Every time before was decided on, and nothing waits.
    pub decided: Option<i64>,
}

/// The life of one schedule.
pub async fn keep(world: Arc<World>, number: u64, mut rng: Rng) {
    let begin = u64::try_from(world.options.safety.as_millis() / 3).unwrap_or(0);
    let pause = rng.millis(0..=begin);
    sleep(pause).await;
    let policies = [Policy::AllowAll, Policy::AllowAll, Policy::BufferAll, Policy::BufferOne, Policy::Skip];
    let policy = rng.pick(&policies).copied().unwrap_or(Policy::AllowAll);
    let every_s = i64::try_from(rng.between(3..=9)).unwrap_or(5);
    let mut client = Client { world, id: format!("{PREFIX}{number}"), requests: 0 };
    let script = format!("A T{}", rng.between(10..=every_s.unsigned_abs() * 1_500));
    let from = client.now();
    let created = Span { from, to: i64::MAX };
    client.note(|all, id| {
        let (deleted, past, decided) = (None, None, None);
        let (triggers, perhaps_paused, paused) = (Vec::new(), Vec::new(), Vec::new());
        let asked = Asked { every_s, policy, created, deleted, triggers, past, perhaps_paused, paused, decided };
        all.insert(id.to_string(), asked);
    });
    if client.create(&mut rng, every_s, policy, &script).await.is_err() {
        return;
    }
    let to = client.now();
    client.change(|asked| asked.created.to = to);
    for _ in 0..rng.between(2..=5) {
        let pause = rng.millis(1_500..=7_000);
        sleep(pause).await;
        let done = match rng.below(3) {
            0 => client.trigger(&mut rng).await,
            1 => client.past(&mut rng, every_s).await,
            _ => client.pause(&mut rng).await,
        };
        if done.is_err() {
            return;
        }
    }
    client.end(&mut rng).await;
}

#[derive(Debug)]
struct Client {
    world: Arc<World>,
    id: String,
    requests: u64,
}

impl Client {
    /// The right time, in milliseconds.
    fn now(&self) -> i64 {
        clock::BEGIN_S * 1_000 + i64::try_from(self.world.begun.elapsed().as_millis()).unwrap_or(0)
    }

    fn note(&self, change: impl FnOnce(&mut std::collections::BTreeMap<String, Asked>, &str)) {
        change(&mut self.world.ledger.known.lock().schedules, &self.id);
    }

    fn change(&self, change: impl FnOnce(&mut Asked)) {
        self.note(|all, id| {
            if let Some(asked) = all.get_mut(id) {
                change(asked);
            }
        });
    }

    async fn create(&mut self, rng: &mut Rng, every_s: i64, policy: Policy, input: &str) -> Result<(), Status> {
        let interval = Some(prost_types::Duration { seconds: every_s, nanos: 0 });
        let workflow = NewWorkflowExecutionInfo {
            workflow_id: self.id.clone(),
            workflow_type: Some(WorkflowType { name: "sim".into() }),
            task_queue: Some(script::queue()),
            input: Some(script::payload(input)),
            workflow_task_timeout: script::millis(3_000),
            ..NewWorkflowExecutionInfo::default()
        };
        let schedule = Schedule {
            spec: Some(ScheduleSpec {
                interval: vec![IntervalSpec { interval, phase: None }],
                ..ScheduleSpec::default()
            }),
            action: Some(ScheduleAction { action: Some(schedule_action::Action::StartWorkflow(workflow)) }),
            policies: Some(SchedulePolicies { overlap_policy: policy.into(), ..SchedulePolicies::default() }),
            state: None,
        };
        let request = CreateScheduleRequest {
            namespace: NAMESPACE.to_string(),
            schedule_id: self.id.clone(),
            schedule: Some(schedule),
            request_id: format!("{}-create", self.id),
            ..CreateScheduleRequest::default()
        };
        let ask = |mut service: Service| {
            let request = timed(request.clone());
            async move { service.create_schedule(request).await }
        };
        self.insist(rng, "create", ask).await.map(|_| ())
    }

    async fn patch(&mut self, rng: &mut Rng, what: &str, patch: SchedulePatch) -> Result<(), Status> {
        self.requests += 1;
        let request = PatchScheduleRequest {
            namespace: NAMESPACE.to_string(),
            schedule_id: self.id.clone(),
            patch: Some(patch),
            request_id: format!("{}-{}", self.id, self.requests),
            ..PatchScheduleRequest::default()
        };
        let ask = |mut service: Service| {
            let request = timed(request.clone());
            async move { service.patch_schedule(request).await }
        };
        self.insist(rng, what, ask).await.map(|_| ())
    }

    async fn trigger(&mut self, rng: &mut Rng) -> Result<(), Status> {
        let from = self.now();
        self.change(|asked| asked.triggers.push(Span { from, to: i64::MAX }));
        let now = TriggerImmediatelyRequest { overlap_policy: Policy::AllowAll.into(), scheduled_time: None };
        let patch = SchedulePatch { trigger_immediately: Some(now), ..SchedulePatch::default() };
        self.patch(rng, "trigger", patch).await?;
        let to = self.now();
        self.change(|asked| {
            if let Some(last) = asked.triggers.last_mut() {
                last.to = to;
            }
        });
        Ok(())
    }

    async fn past(&mut self, rng: &mut Rng, every_s: i64) -> Result<(), Status> {
        let first = (clock::BEGIN_S - PAST_S).div_euclid(every_s) * every_s;
        let times: Vec<i64> = (0..PAST_TIMES).map(|number| first + number * every_s).collect();
        let mut is_first = true;
        self.change(|asked| {
            is_first = asked.past.is_none();
            asked.past.get_or_insert((times.clone(), false));
        });
        if !is_first {
            return Ok(());
        }
        let at = |seconds: Option<&i64>| seconds.map(|seconds| Timestamp { seconds: *seconds, nanos: 0 });
        let backfill = BackfillRequest {
            start_time: at(times.first()),
            end_time: at(times.last()),
            overlap_policy: Policy::AllowAll.into(),
        };
        let patch = SchedulePatch { backfill_request: vec![backfill], ..SchedulePatch::default() };
        self.patch(rng, "backfill", patch).await?;
        self.change(|asked| asked.past = Some((times, true)));
        Ok(())
    }

    async fn pause(&mut self, rng: &mut Rng) -> Result<(), Status> {
        let sent = self.now();
        self.change(|asked| asked.perhaps_paused.push(Span { from: sent, to: i64::MAX }));
        self.patch(rng, "pause", SchedulePatch { pause: "a while".into(), ..SchedulePatch::default() }).await?;
        let from = self.now();
        let length = rng.millis(1_000..=9_000);
        sleep(length).await;
        let to = self.now();
        self.change(|asked| asked.paused.push(Span { from, to }));
        self.patch(rng, "unpause", SchedulePatch { unpause: "enough".into(), ..SchedulePatch::default() }).await?;
        let answered = self.now();
        self.change(|asked| {
            if let Some(last) = asked.perhaps_paused.last_mut() {
                last.to = answered;
            }
        });
        Ok(())
    }

    /// Sees how far the schedule is, and deletes it.
    async fn end(&mut self, rng: &mut Rng) {
        let Ok(description) = self.describe(rng).await else { return };
        let info = description.info.unwrap_or_default();
        let decided = info.future_action_times.first().map(|time| time.seconds).filter(|_| info.buffer_size == 0);
        let from = self.now();
        self.change(|asked| {
            asked.decided = decided;
            asked.deleted = Some(Span { from, to: i64::MAX });
        });
        let request = DeleteScheduleRequest {
            namespace: NAMESPACE.to_string(),
            schedule_id: self.id.clone(),
            ..Default::default()
        };
        let ask = |mut service: Service| {
            let request = timed(request.clone());
            async move {
                match service.delete_schedule(request).await {
                    // An earlier call did it, whose answer was lost.
                    Err(status) if status.code() == Code::NotFound => Ok(Response::new(Default::default())),
                    answer => answer,
                }
            }
        };
        if self.insist(rng, "delete", ask).await.is_ok() {
            let to = self.now();
            self.change(|asked| asked.deleted = Some(Span { from, to }));
            self.world.tally.count("schedule deleted");
        }
    }

    async fn describe(&mut self, rng: &mut Rng) -> Result<DescribeScheduleResponse, Status> {
        let request = DescribeScheduleRequest { namespace: NAMESPACE.to_string(), schedule_id: self.id.clone() };
        let ask = |mut service: Service| {
            let request = timed(request.clone());
            async move { service.describe_schedule(request).await }
        };
        self.insist(rng, "describe", ask).await
    }

    /// Asks until there is an answer; one that no repetition changes is a violation.
    async fn insist<T, F>(&mut self, rng: &mut Rng, what: &str, ask: impl Fn(Service) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        loop {
            let answer = ask(self.world.service(rng)).await;
            let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
            self.world.trace.line(&format!("schedule {}: {what}: {code:?}", self.id));
            match answer {
                Ok(answer) => {
                    self.world.tally.count(&format!("schedule: {what}"));
                    return Ok(answer.into_inner());
                }
                Err(status) if is_passing(&status) => {}
                Err(status) => {
                    self.world.violated(format!("B-5: {what} of the schedule {}: {status}", self.id));
                    return Err(status);
                }
            }
            let pause = rng.millis(50..=500);
            sleep(pause).await;
        }
    }
}

fn timed<T>(request: T) -> Request<T> {
    let mut request = Request::new(request);
    request.set_timeout(CALL_TIME);
    request
}
