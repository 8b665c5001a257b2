//! Activities whose behaviour their input decides.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use temporalio_macros::activities;
use temporalio_sdk::ApplicationFailure;
use temporalio_sdk::activities::{ActivityContext, ActivityError};

const STEP: Duration = Duration::from_millis(50);

/// Ids of activities that wait to be completed from outside.
pub static WAITING: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// How `hang` ended, by workflow id.
static ENDS: Mutex<Option<HashMap<String, &'static str>>> = Mutex::new(None);

/// How the activity `hang` of a workflow ended, when it was asked to.
pub fn last_end(workflow_id: &str) -> Option<&'static str> {
    ENDS.lock().expect("no activity panics here").as_ref()?.get(workflow_id).copied()
}

pub struct Activities;

#[activities]
impl Activities {
    #[activity]
    pub async fn double(_ctx: ActivityContext, number: u32) -> Result<u32, ActivityError> {
        Ok(number * 2)
    }

    #[activity]
    pub async fn greet(_ctx: ActivityContext, name: String) -> Result<String, ActivityError> {
        Ok(format!("Hello, {name}!"))
    }

    /// Fails until its n-th attempt, and says which one it was.
    #[activity]
    pub async fn fail_until(ctx: ActivityContext, attempt: u32) -> Result<u32, ActivityError> {
        match ctx.info().attempt {
            now if now < attempt => Err(ActivityError::application(ApplicationFailure::new("not yet"))),
            now => Ok(now),
        }
    }

    #[activity]
    pub async fn fail_for_good(_ctx: ActivityContext, message: String) -> Result<(), ActivityError> {
        Err(ActivityError::application(ApplicationFailure::non_retryable(message)))
    }

    /// Counts, dies once in the middle, and goes on where its heartbeat says; the first step of this attempt.
    #[activity]
    pub async fn count(ctx: ActivityContext, steps: u32) -> Result<u32, ActivityError> {
        let first: u32 = ctx.heartbeat_details().deserialize()?.unwrap_or(0);
        for step in first..steps {
            ctx.record_heartbeat(step + 1).await?;
            tokio::time::sleep(STEP).await;
            if step == steps / 2 && ctx.info().attempt == 1 {
                return Err(ActivityError::application(ApplicationFailure::new("died")));
            }
        }
        Ok(first)
    }

    /// Ends only when it is cancelled.
    #[activity]
    pub async fn hang(ctx: ActivityContext, heartbeats: bool) -> Result<(), ActivityError> {
        while !ctx.is_cancelled() {
            if heartbeats {
                ctx.record_heartbeat(()).await?;
            }
            tokio::time::sleep(STEP).await;
        }
        let workflow_id = ctx.info().workflow_id.clone().unwrap_or_default();
        ENDS.lock().expect("no activity panics here").get_or_insert_default().insert(workflow_id, "cancelled");
        Err(ActivityError::cancelled())
    }

    #[activity]
    pub async fn wait_for_outside(ctx: ActivityContext) -> Result<String, ActivityError> {
        WAITING.lock().expect("no activity panics here").push(ctx.info().activity_id.clone());
        Err(ActivityError::WillCompleteAsync)
    }
}
