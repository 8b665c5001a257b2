//! Batch operations: one operation on many executions, carried out by the nodes themselves.
//!
//! ```text
//! request.rs   what a job may ask for                 worker.rs    the nodes' polls of the jobs' queue
//! job.rs       a job as a workflow, and what it says  run.rs       the job's activity: pages, progress, retries
//! progress.rs  how far a job has come                 operate.rs   the operation on one execution
//! pace.rs      operations per second                  reset.rs     where an execution is reset to
//! ```
//!
//! # Contract
//! A job is a workflow of the namespace, in the division `TemporalBatcher`, with one activity. So all that
//! a job needs follows from workflows: it is durable, it is listed, described, stopped (terminated), kept
//! for the namespace's retention and purged like one, and its id is taken like one's.
//!
//! The nodes are the workers of the jobs' task queue: the node that brokers the queue begins to poll it when
//! tasks are offered. The activity reads a page of the listing, notes it in a heartbeat, works it off and
//! notes what is left every second.
//!
//! | dies | what is left | what recovers it |
//! | --- | --- | --- |
//! | the node with the activity | the page and what was left of it, at most a second old | the heartbeat timeout: another node goes on from there |
//! | the leader of the job's shard | all of that | the next leader; the activity repeats its heartbeats |
//! | the leader of an execution's shard | the operation's outcome is unknown | it is repeated |
//!
//! An operation may be sent again after any of these. It is carried out once all the same: signals, resets
//! and requests to cancel carry a request id made of job and execution, and the others do nothing twice.

#![allow(deprecated, reason = "the API gives some of what today's tools send new names")]

mod job;
mod operate;
mod pace;
mod progress;
mod request;
mod reset;
mod run;
mod worker;

pub use job::{ALL_JOBS, OPEN_JOBS, described, start_request, state};
pub use request::check;
pub use worker::work;

/// The queue of the server's own workflows, in every namespace.
pub const TASK_QUEUE: &str = "temporal-sys-per-ns-tq";
