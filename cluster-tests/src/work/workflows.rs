//! Workflows that concern only themselves.

use std::time::Duration;

use temporalio_common::RetryPolicy;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_sdk::{
    ActivityCancellationType, ActivityCloseTimeouts, ActivityExecutionError, ActivityOptions, ApplicationFailure,
    CancellableFuture, ContinueAsNewOptions, LocalActivityOptions, SyncWorkflowContext, TimerResult,
    WorkflowCancellationToken, WorkflowContext, WorkflowContextView, WorkflowResult,
};

use super::Activities;

const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(60);
const FOREVER: Duration = Duration::from_secs(3600);

fn fast_retry() -> RetryPolicy {
    RetryPolicy::builder()
        .initial_interval(Duration::from_millis(50))
        .maximum_interval(Duration::from_millis(200))
        .build()
}

fn no_retry() -> RetryPolicy {
    RetryPolicy::builder().maximum_attempts(1).build()
}

fn plain() -> ActivityOptions {
    ActivityOptions::start_to_close_timeout(LONG)
}

/// Takes so many numbers by signal, and doubles each in an activity, with a timer between: the load of fault tests.
#[workflow]
#[derive(Default)]
pub struct Doubles {
    inbox: Vec<u32>,
}

#[workflow_methods]
impl Doubles {
    #[run]
    pub async fn run(ctx: &mut WorkflowContext<Self>, expected: u32) -> WorkflowResult<Vec<u32>> {
        let mut doubled = Vec::new();
        for next in 0..expected as usize {
            ctx.wait_condition(move |state| state.inbox.len() > next).await?;
            let number = ctx.state(|state| state.inbox[next]);
            let options = ActivityOptions::start_to_close_timeout(Duration::from_secs(5));
            doubled.push(ctx.execute_activity(Activities::double, number, options).await?);
            ctx.timer(Duration::from_millis(20)).await;
        }
        Ok(doubled)
    }

    #[signal]
    pub fn add(&mut self, _ctx: &mut SyncWorkflowContext<Self>, number: u32) {
        self.inbox.push(number);
    }
}

#[workflow]
#[derive(Default)]
pub struct Greeting;

#[workflow_methods]
impl Greeting {
    #[run]
    pub async fn run(ctx: &mut WorkflowContext<Self>, name: String) -> WorkflowResult<String> {
        Ok(ctx.execute_activity(Activities::greet, name, plain()).await?)
    }
}

/// Attempt that succeeded, step at which counting went on, and the message of an activity that gave up.
#[workflow]
#[derive(Default)]
pub struct Retries;

#[workflow_methods]
impl Retries {
    #[run]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<(u32, u32, Vec<String>)> {
        let retried = || {
            ActivityOptions::with_start_to_close_timeout(LONG)
                .retry_policy(fast_retry())
                .heartbeat_timeout(LONG)
                .build()
        };
        let third = ctx.execute_activity(Activities::fail_until, 3u32, retried()).await?;
        let resumed = ctx.execute_activity(Activities::count, 10u32, retried()).await?;
        let mut failures = Vec::new();
        let twice = RetryPolicy::builder().initial_interval(Duration::from_millis(10)).maximum_attempts(2).build();
        let twice = ActivityOptions::with_start_to_close_timeout(LONG).retry_policy(twice).build();
        if let Err(error) = ctx.execute_activity(Activities::fail_until, 9u32, twice).await {
            failures.push(describe(&error));
        }
        if let Err(error) = ctx.execute_activity(Activities::fail_for_good, "broken".to_string(), plain()).await {
            failures.push(describe(&error));
        }
        Ok((third, resumed, failures))
    }
}

/// Why an activity ended: its cause's message, its timeout, or that it was cancelled.
fn describe(error: &ActivityExecutionError) -> String {
    if let Some(timeout) = error.as_timeout() {
        return format!("{:?}", timeout.timeout_type());
    }
    match error {
        ActivityExecutionError::Cancelled(_) => "cancelled".to_string(),
        other => other.cause().map_or_else(|| other.to_string(), |cause| cause.failure().message.clone()),
    }
}

/// Runs into each of the four timeouts of activities.
#[workflow]
#[derive(Default)]
pub struct Timeouts;

#[workflow_methods]
impl Timeouts {
    #[run]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<Vec<String>> {
        let close = |timeouts| ActivityOptions::with_close_timeouts(timeouts);
        let all = [
            ActivityOptions::with_start_to_close_timeout(SHORT).retry_policy(no_retry()).build(),
            ActivityOptions::with_schedule_to_close_timeout(SHORT).build(),
            close(ActivityCloseTimeouts::ScheduleToClose(LONG))
                .schedule_to_start_timeout(SHORT)
                .task_queue("nobody-polls-this".to_string())
                .build(),
            ActivityOptions::with_start_to_close_timeout(LONG)
                .heartbeat_timeout(SHORT)
                .retry_policy(no_retry())
                .build(),
        ];
        let mut caught = Vec::new();
        for options in all {
            match ctx.execute_activity(Activities::hang, false, options).await {
                Ok(()) => caught.push("ended".to_string()),
                Err(error) => caught.push(describe(&error)),
            }
        }
        Ok(caught)
    }
}

/// Cancels a running activity itself.
#[workflow]
#[derive(Default)]
pub struct CancelsActivity;

#[workflow_methods]
impl CancelsActivity {
    #[run]
    pub async fn run(ctx: &mut WorkflowContext<Self>, waits: bool) -> WorkflowResult<String> {
        let kind = match waits {
            true => ActivityCancellationType::WaitCancellationCompleted,
            false => ActivityCancellationType::TryCancel,
        };
        let options = ActivityOptions::with_start_to_close_timeout(LONG)
            .heartbeat_timeout(Duration::from_secs(2))
            .cancellation_type(kind)
            .build();
        let running = ctx.execute_activity(Activities::hang, true, options);
        ctx.timer(SHORT).await;
        running.cancel();
        Ok(match running.await {
            Ok(()) => "ended".to_string(),
            Err(error) => describe(&error),
        })
    }
}

#[workflow]
#[derive(Default)]
pub struct AwaitsOutside;

#[workflow_methods]
impl AwaitsOutside {
    #[run]
    pub async fn run(ctx: &mut WorkflowContext<Self>, activity_id: String) -> WorkflowResult<String> {
        let options = ActivityOptions::with_start_to_close_timeout(LONG)
            .heartbeat_timeout(LONG)
            .retry_policy(no_retry())
            .activity_id(activity_id)
            .build();
        Ok(ctx.execute_activity(Activities::wait_for_outside, (), options).await?)
    }
}

/// Timers one after another, and one that is cancelled.
#[workflow]
#[derive(Default)]
pub struct Timers;

#[workflow_methods]
impl Timers {
    #[run]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<u64> {
        let began = ctx.workflow_time();
        let forgotten = ctx.timer(FOREVER);
        for _ in 0..3 {
            ctx.timer(Duration::from_millis(200)).await;
        }
        forgotten.cancel();
        if forgotten.await != TimerResult::Cancelled {
            return Err(ApplicationFailure::non_retryable("a cancelled timer fired").into());
        }
        let took = ctx.workflow_time().zip(began).and_then(|(now, began)| now.duration_since(began).ok());
        Ok(took.map_or(0, |took| took.as_millis() as u64))
    }
}

/// Collects signals until "done", and answers queries meanwhile.
#[workflow]
#[derive(Default)]
pub struct Inbox {
    items: Vec<String>,
}

#[workflow_methods]
impl Inbox {
    #[run]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<Vec<String>> {
        ctx.wait_condition(|state| state.items.iter().any(|item| item == "done")).await?;
        Ok(ctx.state(|state| state.items.clone()))
    }

    #[signal]
    pub fn put(&mut self, _ctx: &mut SyncWorkflowContext<Self>, item: String) {
        self.items.push(item);
    }

    #[query]
    pub fn seen(&self, _ctx: &WorkflowContextView) -> Vec<String> {
        self.items.clone()
    }
}

/// Local activities: a plain one, one that is retried, one that fails; and a marker of its own.
#[workflow]
#[derive(Default)]
pub struct LocalActivities;

#[workflow_methods]
impl LocalActivities {
    #[run]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<(String, u32, bool, bool)> {
        let options = |retry| LocalActivityOptions::builder().start_to_close_timeout(LONG).retry_policy(retry).build();
        let greeting =
            ctx.execute_local_activity(Activities::greet, "local".to_string(), options(fast_retry())).await?;
        let third = ctx.execute_local_activity(Activities::fail_until, 3u32, options(fast_retry())).await?;
        let failed =
            ctx.execute_local_activity(Activities::fail_for_good, "broken".to_string(), options(no_retry())).await;
        let patched = ctx.patched("a-marker");
        Ok((greeting, third, failed.is_err(), patched))
    }
}

/// Is cancelled, and still runs an activity before it ends.
#[workflow]
#[derive(Default)]
pub struct CleansUp;

#[workflow_methods]
impl CleansUp {
    #[run]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<String> {
        if ctx.timer(FOREVER).await != TimerResult::Cancelled {
            return Ok("slept".to_string());
        }
        let options = ActivityOptions::with_start_to_close_timeout(LONG)
            .cancellation_token(WorkflowCancellationToken::new())
            .build();
        Ok(ctx.execute_activity(Activities::greet, "cleanup".to_string(), options).await?)
    }
}

#[workflow]
#[derive(Default)]
pub struct CountsDown;

#[workflow_methods]
impl CountsDown {
    #[run]
    pub async fn run(ctx: &mut WorkflowContext<Self>, left: u32) -> WorkflowResult<String> {
        if left > 0 {
            ctx.continue_as_new(left - 1, ContinueAsNewOptions::default())?;
        }
        Ok("landed".to_string())
    }
}

#[workflow]
#[derive(Default)]
pub struct Fails;

#[workflow_methods]
impl Fails {
    #[run]
    pub async fn run(_ctx: &mut WorkflowContext<Self>, who: String) -> WorkflowResult<()> {
        Err(ApplicationFailure::non_retryable(format!("{who} fails")).into())
    }
}

/// Fails in its first run and succeeds in the one that its retry policy starts.
#[workflow]
#[derive(Default)]
pub struct FailsOnce;

#[workflow_methods]
impl FailsOnce {
    #[run]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<u32> {
        match ctx.info().attempt() {
            1 => Err(ApplicationFailure::new("once").into()),
            attempt => Ok(attempt),
        }
    }
}

#[workflow]
#[derive(Default)]
pub struct Sleeper;

#[workflow_methods]
impl Sleeper {
    #[run]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<String> {
        // Cancelled by default together with the workflow.
        ctx.wait_condition(|_| false).await?;
        Ok("woke up".to_string())
    }
}
