//! The promises that a run is held to, one file each.
//!
//! ```text
//! b1_durable.rs    what was acknowledged is there at the end      b2_histories.rs  contiguous, append-only
//! b2_replicas.rs   equal states at equal indexes                  b3_wakes.rs      everything ends, once it can
//! b2_listings.rs   rows behind listings follow from the runs
//! b4_once.rs       completions, starts, open runs                 b5_reads.rs      reads never go back
//! b4_schedules.rs  each time of a schedule once
//! b5_linear.rs     one order of all calls                         b6_timers.rs     never early
//! replay.rs        the past decides the same again
//! ```

pub mod b1_durable;
pub mod b2_histories;
pub mod b2_listings;
pub mod b2_replicas;
pub mod b3_wakes;
pub mod b4_once;
pub mod b4_schedules;
pub mod b5_linear;
pub mod b5_reads;
pub mod b6_timers;
pub mod replay;
