//! What workers do: activities and workflows that together use all that a worker may ask of the server.

mod activities;
mod parents;
mod workflows;

use temporalio_sdk::WorkerOptions;

pub use activities::{Activities, WAITING, last_end};
pub use parents::{CancelsOther, Leaves, Parent};
pub use workflows::{
    AwaitsOutside, CancelsActivity, CleansUp, CountsDown, Doubles, Fails, FailsOnce, Greeting, Inbox, LocalActivities,
    Retries, Sleeper, Timeouts, Timers,
};

/// A worker with all of them.
pub fn options(queue: &str, cached: usize) -> anyhow::Result<WorkerOptions> {
    let options = WorkerOptions::new(queue)
        .max_cached_workflows(cached)
        .register_activities(Activities)
        .register_workflow::<Doubles>()?
        .register_workflow::<Greeting>()?
        .register_workflow::<Retries>()?
        .register_workflow::<Timeouts>()?
        .register_workflow::<CancelsActivity>()?
        .register_workflow::<AwaitsOutside>()?
        .register_workflow::<Timers>()?
        .register_workflow::<Inbox>()?
        .register_workflow::<LocalActivities>()?
        .register_workflow::<CleansUp>()?
        .register_workflow::<CountsDown>()?
        .register_workflow::<Fails>()?
        .register_workflow::<FailsOnce>()?
        .register_workflow::<Sleeper>()?
        .register_workflow::<Parent>()?
        .register_workflow::<Leaves>()?
        .register_workflow::<CancelsOther>()?;
    Ok(options.build())
}
