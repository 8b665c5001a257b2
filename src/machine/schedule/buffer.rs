//! Overlap policies: which of the actions that wait may start, given what runs.

use alloc::vec::Vec;

use bristlecone_proto::record::ScheduleBuffered;
use bristlecone_proto::temporal::api::enums::v1::ScheduleOverlapPolicy as Policy;

/// What is to be done with a buffer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Plan {
    /// Start beside whatever runs.
    pub overlapping: Vec<ScheduleBuffered>,
    /// Starts, since nothing runs.
    pub alone: Option<ScheduleBuffered>,
    /// Wait until what runs has ended.
    pub kept: Vec<ScheduleBuffered>,
    pub skipped: i64,
    /// What runs is to end.
    pub cancel: bool,
    pub terminate: bool,
}

/// The policy of an action: its own, or the schedule's of now.
pub(super) fn policy(start: &ScheduleBuffered, default: Policy) -> Policy {
    match start.overlap_policy() {
        Policy::Unspecified if default == Policy::Unspecified => Policy::Skip,
        Policy::Unspecified => default,
        policy => policy,
    }
}

pub(super) fn plan(buffered: &[ScheduleBuffered], is_running: bool, default: Policy) -> Plan {
    let mut plan = Plan::default();
    for start in buffered {
        let policy = policy(start, default);
        if policy == Policy::AllowAll {
            plan.overlapping.push(*start);
            continue;
        }
        if !is_running && plan.alone.is_none() {
            plan.alone = Some(*start);
            continue;
        }
        match policy {
            Policy::BufferAll => plan.kept.push(*start),
            Policy::BufferOne if plan.kept.is_empty() => plan.kept.push(*start),
            Policy::CancelOther | Policy::TerminateOther if !is_running => {
                // What it would end is not even started.
                plan.alone = Some(*start);
            }
            Policy::CancelOther => {
                plan.cancel = true;
                plan.kept.push(*start);
            }
            Policy::TerminateOther => {
                plan.terminate = true;
                plan.kept.push(*start);
            }
            Policy::Skip | Policy::BufferOne | Policy::Unspecified | Policy::AllowAll => plan.skipped += 1,
        }
    }
    if plan.cancel || plan.terminate {
        // They would be ended along with the rest.
        plan.overlapping.clear();
    }
    plan
}

/// What to do while it is not known what runs: what may run beside everything starts, unless what waits with it may
/// be about to end all that runs.
pub(super) fn regardless(buffered: &[ScheduleBuffered], default: Policy) -> Plan {
    let ends_others =
        |start: &ScheduleBuffered| matches!(policy(start, default), Policy::CancelOther | Policy::TerminateOther);
    if buffered.iter().any(ends_others) {
        return Plan { kept: buffered.to_vec(), ..Plan::default() };
    }
    let (overlapping, kept) = buffered.iter().partition(|start| policy(start, default) == Policy::AllowAll);
    Plan { overlapping, kept, ..Plan::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::timestamp;

    fn buffered(policies: &[Policy]) -> Vec<ScheduleBuffered> {
        let start = |(at, policy): (usize, &Policy)| ScheduleBuffered {
            nominal_time: Some(timestamp(at as i64)),
            overlap_policy: (*policy).into(),
            ..ScheduleBuffered::default()
        };
        policies.iter().enumerate().map(start).collect()
    }

    /// Places in the buffer: those that overlap, the one that starts alone, those that stay; and how many are skipped.
    fn outcome(policies: &[Policy], is_running: bool) -> (Vec<i32>, Option<i32>, Vec<i32>, i64) {
        let plan = plan(&buffered(policies), is_running, Policy::Skip);
        let place = |start: &ScheduleBuffered| start.nominal_time.expect("it is set").nanos;
        (
            plan.overlapping.iter().map(place).collect(),
            plan.alone.as_ref().map(place),
            plan.kept.iter().map(place).collect(),
            plan.skipped,
        )
    }

    #[test]
    fn each_policy_with_and_without_something_running() {
        use Policy::*;
        let of =
            |overlapping: &[i32], alone, kept: &[i32], skipped| (overlapping.to_vec(), alone, kept.to_vec(), skipped);
        assert_eq!(outcome(&[Unspecified, Skip], false), of(&[], Some(0), &[], 1));
        assert_eq!(outcome(&[Skip, Skip], true), of(&[], None, &[], 2));
        assert_eq!(outcome(&[BufferOne; 3], false), of(&[], Some(0), &[1], 1));
        assert_eq!(outcome(&[BufferOne; 3], true), of(&[], None, &[0], 2));
        assert_eq!(outcome(&[BufferAll; 3], false), of(&[], Some(0), &[1, 2], 0));
        assert_eq!(outcome(&[CancelOther; 3], false), of(&[], Some(2), &[], 0));
        assert_eq!(outcome(&[CancelOther; 2], true), of(&[], None, &[0, 1], 0));
        assert_eq!(outcome(&[AllowAll, Skip, AllowAll], true), of(&[0, 2], None, &[], 1));
    }

    #[test]
    fn only_what_may_overlap_starts_while_it_is_not_known_what_runs() {
        use Policy::*;
        let known = buffered(&[Skip, AllowAll, BufferOne]);
        let plan = regardless(&known, Skip);
        assert_eq!((plan.overlapping, plan.kept), (known[1..2].to_vec(), [known[0], known[2]].to_vec()));
        let known = buffered(&[CancelOther, AllowAll]);
        assert_eq!(regardless(&known, Skip), Plan { kept: known.clone(), ..Plan::default() });
    }

    #[test]
    fn what_runs_is_ended_and_nothing_starts_beside_it() {
        use Policy::*;
        let cancel = plan(&buffered(&[CancelOther, AllowAll]), true, Skip);
        assert!(cancel.cancel && !cancel.terminate && cancel.overlapping.is_empty());
        let both = plan(&buffered(&[CancelOther, TerminateOther]), true, Skip);
        assert!(both.cancel && both.terminate);
        assert!(!plan(&buffered(&[TerminateOther]), false, Skip).terminate);
        assert!(plan(&buffered(&[Unspecified]), true, TerminateOther).terminate);
    }
}
