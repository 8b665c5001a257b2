//! Starts and calls, in a closed loop or at a rate; and the check of what became of it all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use bristlecone_proto::temporal::api::common::v1::{Priority, WorkflowExecution, WorkflowType};
use bristlecone_proto::temporal::api::enums::v1::{HistoryEventFilterType, UpdateWorkflowExecutionLifecycleStage};
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::update::v1::{self as update, Meta, WaitPolicy};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    DescribeWorkflowExecutionRequest, GetWorkflowExecutionHistoryRequest, SignalWorkflowExecutionRequest,
    StartWorkflowExecutionRequest, UpdateWorkflowExecutionRequest,
};
use rand::seq::index::sample;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tonic::Code;

use super::Config;
use super::client::Client;
use super::ledger::Ledger;
use super::plan::{Plan, Scenario};
use super::{schedule, search};

const IDENTITY: &str = "bristlecone-bench";
/// Workflows that are checked at once.
const CHECKERS: usize = 64;
/// Starts on their way at once when they go at a rate: a server that stalls must not exhaust the generator.
const ON_THEIR_WAY_MAX: usize = 20_000;

/// Starts all workflows of the plan.
pub async fn start_all(config: &Config, client: &Client, plan: &Arc<Plan>, ledger: &Arc<Ledger>) -> anyhow::Result<()> {
    let waits = config.scenario.waits() && config.rate.is_none();
    let one = {
        let (client, plan, ledger) = (client.clone(), Arc::clone(plan), Arc::clone(ledger));
        move |number: u64, due: Instant| {
            let (client, plan, ledger) = (client.clone(), Arc::clone(&plan), Arc::clone(&ledger));
            async move {
                let completed = ledger.due(number, due);
                let run_id = match plan.scenario {
                    Scenario::Schedules => schedule::create(&client, &plan, number).await.map(|()| String::new())?,
                    _ => start(&client, &plan, number).await?,
                };
                ledger.started(number, run_id, due);
                if waits {
                    // The ledger notices when it takes too long.
                    completed.await.map_err(|_| anyhow!("the ledger is gone"))?;
                }
                Ok(())
            }
        }
    };
    // The receivers of calls are not what is measured.
    let rate = config.rate.filter(|_| config.scenario.calls().is_none());
    let concurrency = if config.scenario == Scenario::Latency { 1 } else { config.concurrency };
    let drive = drive(plan.workflows(), concurrency, rate, one);
    tokio::select! {
        driven = drive => driven,
        // Without this a lost workflow would keep its starter waiting for ever.
        lost = ledger.wait_all(), if waits => match lost {
            Ok(()) => Ok(()),
            Err(error) => Err(error),
        },
    }
}

/// Makes all calls of the plan: signals, updates or queries.
pub async fn call_all(config: &Config, client: &Client, plan: &Arc<Plan>, ledger: &Arc<Ledger>) -> anyhow::Result<()> {
    let (client, plan, ledger) = (client.clone(), Arc::clone(plan), Arc::clone(ledger));
    let count = plan.count();
    let one = move |number: u64, due: Instant| {
        let (client, plan, ledger) = (client.clone(), Arc::clone(&plan), Arc::clone(&ledger));
        async move {
            match plan.scenario {
                // A count for every four pages.
                Scenario::Search if number % 5 == 4 => {
                    search::count(&client).await?;
                    ledger.counted(due);
                    return Ok(());
                }
                Scenario::Search => search::page(&client, number).await?,
                Scenario::Update => update(&client, &plan, number).await?,
                _ => signal(&client, &plan, number).await?,
            }
            ledger.called(due);
            Ok(())
        }
    };
    drive(count, config.concurrency, config.rate, one).await
}

/// Makes away with the schedules of the plan.
pub async fn forget_schedules(config: &Config, client: &Client, plan: &Arc<Plan>) -> anyhow::Result<()> {
    let (client, plan) = (client.clone(), Arc::clone(plan));
    let count = plan.count();
    let one = move |number: u64, _: Instant| {
        let (client, plan) = (client.clone(), Arc::clone(&plan));
        async move { schedule::delete(&client, &plan, number).await }
    };
    drive(count, config.concurrency, None, one).await
}

/// Runs `one` for 0..count: so many at once, or at a rate and as many at once as that takes.
async fn drive<F>(
    count: u64,
    concurrency: usize,
    rate: Option<f64>,
    one: impl Fn(u64, Instant) -> F + Clone + Send + 'static,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut running = JoinSet::new();
    match rate {
        None => {
            let next = Arc::new(AtomicU64::new(0));
            for _ in 0..concurrency {
                let (next, one) = (Arc::clone(&next), one.clone());
                running.spawn(async move {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return Ok(());
                        }
                        one(number, Instant::now()).await?;
                    }
                });
            }
        }
        Some(rate) => {
            let begun = Instant::now();
            for number in 0..count {
                let due = begun + Duration::from_secs_f64(number as f64 / rate);
                sleep_until(due).await;
                while running.len() >= ON_THEIR_WAY_MAX || running.try_join_next().map(flatten).transpose()?.is_some() {
                    if running.len() >= ON_THEIR_WAY_MAX {
                        running.join_next().await.map(flatten).transpose()?;
                    }
                }
                running.spawn(one(number, due));
            }
        }
    }
    while let Some(ended) = running.join_next().await {
        flatten(ended)?;
    }
    Ok(())
}

fn flatten(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Result<()> {
    ended.context("a task of the generator failed")?
}

async fn start(client: &Client, plan: &Plan, number: u64) -> anyhow::Result<String> {
    let request = StartWorkflowExecutionRequest {
        namespace: client.namespace(),
        workflow_id: plan.workflow_id(number),
        workflow_type: Some(WorkflowType { name: "bench".into() }),
        task_queue: Some(plan.task_queue()),
        input: Some(plan.payload.clone()),
        identity: IDENTITY.into(),
        // The same at every attempt, so that an attempt too many starts nothing.
        request_id: format!("{}-start", plan.workflow_id(number)),
        priority: priority(plan.priority(number)),
        ..StartWorkflowExecutionRequest::default()
    };
    let started = client.call(|mut service| {
        let request = request.clone();
        async move { service.start_workflow_execution(request).await }
    });
    Ok(started.await.with_context(|| format!("starting {}", plan.workflow_id(number)))?.run_id)
}

async fn signal(client: &Client, plan: &Plan, number: u64) -> anyhow::Result<()> {
    let workflow_id = plan.workflow_id(plan.receiver(number));
    let request = SignalWorkflowExecutionRequest {
        namespace: client.namespace(),
        workflow_execution: Some(WorkflowExecution { workflow_id, run_id: String::new() }),
        signal_name: "bench".into(),
        input: Some(plan.payload.clone()),
        identity: IDENTITY.into(),
        request_id: format!("{}-signal-{number}", plan.run),
        ..SignalWorkflowExecutionRequest::default()
    };
    let signalled = client.call(|mut service| {
        let request = request.clone();
        async move { service.signal_workflow_execution(request).await }
    });
    signalled.await.with_context(|| format!("signal {number}"))?;
    Ok(())
}

async fn update(client: &Client, plan: &Plan, number: u64) -> anyhow::Result<()> {
    let workflow_id = plan.workflow_id(plan.receiver(number));
    let request = UpdateWorkflowExecutionRequest {
        namespace: client.namespace(),
        workflow_execution: Some(WorkflowExecution { workflow_id, run_id: String::new() }),
        wait_policy: Some(WaitPolicy { lifecycle_stage: UpdateWorkflowExecutionLifecycleStage::Completed.into() }),
        request: Some(update::Request {
            meta: Some(Meta { update_id: format!("{}-update-{number}", plan.run), identity: IDENTITY.into() }),
            input: Some(update::Input { name: "bench".into(), args: Some(plan.payload.clone()), header: None }),
            ..update::Request::default()
        }),
        ..UpdateWorkflowExecutionRequest::default()
    };
    let outcome = loop {
        let updated = client.call(|mut service| {
            let request = request.clone();
            async move { service.update_workflow_execution(request).await }
        });
        // Without an outcome the server asks to be asked again.
        match updated.await.with_context(|| format!("update {number}"))?.outcome {
            Some(outcome) => break outcome,
            None => continue,
        }
    };
    match outcome.value {
        Some(update::outcome::Value::Success(result)) if result == plan.payload => Ok(()),
        other => Err(anyhow!("update {number}: not the planned result: {other:?}")),
    }
}

fn priority(key: u64) -> Option<Priority> {
    let priority_key = i32::try_from(key).unwrap_or(i32::MAX);
    (key > 0).then(|| Priority { priority_key, ..Priority::default() })
}

/// What the server says of the outcomes.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// Workflows that were asked for.
    pub workflows: u64,
    /// What is wrong with some of them; the first few in words.
    pub wrong: u64,
    pub examples: Vec<String>,
    /// State transitions of one workflow, as the server counts them; 0 when it does not say.
    pub transitions_each: u64,
}

/// Asks the server what became of the workflows, at most `max` of them.
pub async fn check(client: &Client, plan: &Arc<Plan>, ledger: &Arc<Ledger>, max: u64) -> Checked {
    let all = plan.workflows();
    let numbers: Vec<u64> = if all <= max {
        (0..all).collect()
    } else {
        let (all, max) = (usize::try_from(all).unwrap_or(usize::MAX), usize::try_from(max).unwrap_or(usize::MAX));
        sample(&mut rand::rng(), all, max).into_iter().map(|number| number as u64).collect()
    };
    let mut checked = Checked { workflows: numbers.len() as u64, ..Checked::default() };
    let numbers = Arc::new(parking_lot::Mutex::new(numbers.into_iter()));
    let mut checkers = JoinSet::new();
    for _ in 0..CHECKERS {
        let (client, plan, ledger, numbers) =
            (client.clone(), Arc::clone(plan), Arc::clone(ledger), Arc::clone(&numbers));
        checkers.spawn(async move {
            let mut wrong = Vec::new();
            loop {
                let Some(number) = numbers.lock().next() else { return wrong };
                if let Err(error) = outcome(&client, &plan, &ledger, number).await {
                    wrong.push(format!("{}: {error:#}", plan.workflow_id(number)));
                }
            }
        });
    }
    while let Some(wrong) = checkers.join_next().await {
        let wrong = wrong.unwrap_or_else(|error| vec![error.to_string()]);
        checked.wrong += wrong.len() as u64;
        checked.examples.extend(wrong);
    }
    checked.examples.truncate(5);
    checked.transitions_each = transitions(client, plan).await.unwrap_or(0);
    checked
}

/// Checks one workflow: the run that was started is closed with the result that was planned, or open.
async fn outcome(client: &Client, plan: &Plan, ledger: &Ledger, number: u64) -> anyhow::Result<()> {
    let closes = !plan.scenario.leaves_open();
    let filter = if closes { HistoryEventFilterType::CloseEvent } else { HistoryEventFilterType::AllEvent };
    let request = GetWorkflowExecutionHistoryRequest {
        namespace: client.namespace(),
        execution: Some(WorkflowExecution { workflow_id: plan.workflow_id(number), run_id: ledger.run_id(number) }),
        history_event_filter_type: filter.into(),
        ..GetWorkflowExecutionHistoryRequest::default()
    };
    let history = client.call(|mut service| {
        let request = request.clone();
        async move { service.get_workflow_execution_history(request).await }
    });
    let history = match history.await {
        Ok(response) => response.history.unwrap_or_default(),
        Err(status) if status.code() == Code::NotFound => return Err(anyhow!("lost: {}", status.message())),
        Err(status) => return Err(status.into()),
    };
    match history.events.last().and_then(|event| event.attributes.as_ref()) {
        Some(Attributes::WorkflowExecutionCompletedEventAttributes(completed)) if closes => {
            anyhow::ensure!(completed.result.as_ref() == Some(&plan.payload), "another result than was planned");
            Ok(())
        }
        Some(_) if !closes && !history.events.is_empty() => Ok(()),
        other => Err(anyhow!(
            "not closed as planned: {}",
            other.map_or("no event".to_string(), |_| {
                history.events.last().map(|event| event.event_type().as_str_name().to_string()).unwrap_or_default()
            })
        )),
    }
}

async fn transitions(client: &Client, plan: &Plan) -> Option<u64> {
    let request = DescribeWorkflowExecutionRequest {
        namespace: client.namespace(),
        execution: Some(WorkflowExecution { workflow_id: plan.workflow_id(0), run_id: String::new() }),
    };
    let described = client.call(|mut service| {
        let request = request.clone();
        async move { service.describe_workflow_execution(request).await }
    });
    let count = described.await.ok()?.workflow_execution_info?.state_transition_count;
    u64::try_from(count).ok()
}
