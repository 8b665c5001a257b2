//! What a schedule does by itself: it takes the times that have come, works off backfills and its buffer, and
//! notes when it has to be woken.

use alloc::string::String;
use alloc::vec::Vec;

use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::ScheduleOverlapPolicy;

use super::{BUFFER_MAX, Next, SECOND, action, buffer as overlap, seed, start_workflow};
use crate::chain::Schedule;
use crate::draft::Draft;
use crate::stamp::{UnixNanos, duration_nanos, nanos, timestamp};

/// Times that one step looks at; the next step goes on.
const TIMES_MAX: usize = 10_000;
/// Times of a backfill that one step takes.
const BACKFILL_TIMES_MAX: usize = 100;
/// Backfills leave the other half of the buffer to the spec's own times.
const BACKFILL_BUFFER_MAX: usize = BUFFER_MAX / 2;
/// Starts that are under way at once.
const STARTS_MAX: usize = 100;
/// How long a schedule that has nothing to do any more stays.
const RETENTION: i64 = 7 * 24 * 3_600 * SECOND;

/// Everything that can be done now.
pub(super) fn go_on(draft: &mut Draft<'_>) {
    let all_taken = take_times(draft);
    take_backfills(draft);
    work_off(draft);
    note_wake(draft, all_taken);
}

/// Buffers the actions whose times have come. Says whether no more are left.
pub(super) fn take_times(draft: &mut Draft<'_>) -> bool {
    let now = draft.now();
    let Some(schedule) = &draft.chain().schedule else { return true };
    let Ok(spec) = schedule.spec.clone() else { return true };
    let seed = seed(draft, schedule);
    if !takes_actions(schedule) {
        // Time that was spent paused is not made up for.
        set_processed(draft, now);
        return true;
    }
    let window = duration_nanos(schedule.definition.policies.as_ref().and_then(|p| p.catchup_window.as_ref()));
    let updated = schedule.head.update_time.as_ref().map_or(i64::MIN, nanos);
    let mut processed = schedule.head.processed.as_ref().map_or(now, nanos);
    for _ in 0..TIMES_MAX {
        let Some(next) = spec.next(&seed, processed).filter(|next| next.actual <= now) else { return true };
        processed = next.actual;
        set_processed(draft, processed);
        if next.actual < updated {
            continue;
        }
        if now.saturating_sub(next.actual) > window {
            if let Some(schedule) = draft.schedule_mut() {
                schedule.head.missed_catchup_window += 1;
            }
            continue;
        }
        buffer(draft, next, ScheduleOverlapPolicy::Unspecified, false);
    }
    false
}

fn set_processed(draft: &mut Draft<'_>, at: UnixNanos) {
    if let Some(schedule) = draft.schedule_mut()
        && schedule.head.processed.as_ref().is_none_or(|processed| nanos(processed) < at)
    {
        schedule.head.processed = Some(timestamp(at));
    }
}

/// One more action that waits.
pub(super) fn buffer(draft: &mut Draft<'_>, at: Next, overlap_policy: ScheduleOverlapPolicy, manual: bool) {
    let Some(schedule) = draft.schedule_mut() else { return };
    let head = &mut *schedule.head;
    if head.buffered.len() >= BUFFER_MAX {
        head.buffer_dropped += 1;
        return;
    }
    head.buffered.push(record::ScheduleBuffered {
        nominal_time: Some(timestamp(at.nominal)),
        actual_time: Some(timestamp(at.actual)),
        overlap_policy: overlap_policy.into(),
        manual,
    });
    head.ask_running = true;
}

/// Takes the next times of the first backfill, and of those after it.
fn take_backfills(draft: &mut Draft<'_>) {
    let Some(schedule) = &draft.chain().schedule else { return };
    let Ok(spec) = schedule.spec.clone() else { return };
    let seed = seed(draft, schedule);
    let mut left = BACKFILL_TIMES_MAX;
    while left > 0
        && let Some(schedule) = &draft.chain().schedule
        && schedule.head.buffered.len() < BACKFILL_BUFFER_MAX
        && let Some(backfill) = schedule.head.backfills.first().copied()
    {
        let end = backfill.end_time.as_ref().map_or(0, nanos);
        let mut after = backfill.start_time.as_ref().map_or(0, nanos);
        let mut done = true;
        while let Some(next) = spec.next(&seed, after).filter(|next| next.actual <= end) {
            if left == 0 {
                done = false;
                break;
            }
            buffer(draft, next, backfill.overlap_policy(), true);
            after = next.actual;
            left -= 1;
        }
        let Some(schedule) = draft.schedule_mut() else { return };
        if done {
            schedule.head.backfills.remove(0);
        } else if let Some(first) = schedule.head.backfills.first_mut() {
            first.start_time = Some(timestamp(after));
        }
    }
}

/// Starts what the overlap policies let start, as far as it is known what runs.
fn work_off(draft: &mut Draft<'_>) {
    loop {
        let Some(schedule) = &draft.chain().schedule else { return };
        let definition = schedule.definition.clone();
        let Some(workflow) = start_workflow(definition.action.as_ref()) else {
            // Nothing is to be done: nothing waits.
            if let Some(schedule) = draft.schedule_mut() {
                schedule.head.buffered.clear();
                schedule.head.backfills.clear();
            }
            return;
        };
        ask_running(draft);
        let Some(schedule) = &draft.chain().schedule else { return };
        let head = &schedule.head;
        let room = STARTS_MAX.saturating_sub(head.starting.len());
        if head.buffered.is_empty() || room == 0 {
            return;
        }
        let is_running = !head.running.is_empty() || head.starting.iter().any(|start| !start.overlapping);
        let default = definition.policies.unwrap_or_default().overlap_policy();
        let mut plan = if head.running.iter().any(|run| run.asked) {
            overlap::regardless(&head.buffered, default)
        } else {
            overlap::plan(&head.buffered, is_running, default)
        };
        // What there is no room for waits in front of the others.
        let later = plan.overlapping.split_off(plan.overlapping.len().min(room));
        drop(plan.kept.splice(0..0, later));
        if let Some(schedule) = draft.schedule_mut() {
            schedule.head.overlap_skipped += plan.skipped;
            schedule.head.buffered = plan.kept;
        }
        let overlapping = plan.overlapping.into_iter().map(|start| (start, true));
        let starts: Vec<_> = overlapping.chain(plan.alone.map(|start| (start, false))).collect();
        let mut dropped = false;
        for (start, overlapping) in starts {
            if take_one(draft, start.manual) {
                action::send_start(draft, workflow, &start, overlapping);
            } else {
                dropped = true;
            }
        }
        if plan.terminate {
            action::send_terminate(draft);
        } else if plan.cancel {
            action::send_cancel(draft);
        }
        if !dropped {
            return;
        }
    }
}

/// Asks after the workflows that were running when last heard of, if that matters to what is in the buffer.
fn ask_running(draft: &mut Draft<'_>) {
    let Some(schedule) = &draft.chain().schedule else { return };
    let head = &schedule.head;
    if !head.ask_running || head.buffered.is_empty() {
        return;
    }
    let default = schedule.definition.policies.unwrap_or_default().overlap_policy();
    let matters = head.buffered.iter().any(|start| overlap::policy(start, default) != ScheduleOverlapPolicy::AllowAll);
    let runs: Vec<String> =
        head.running.iter().filter(|run| matters && !run.asked).map(|run| run.first_run_id.clone()).collect();
    for run in runs {
        action::send_watch(draft, &run);
    }
    if let Some(schedule) = draft.schedule_mut() {
        schedule.head.ask_running = false;
    }
}

/// Whether the spec's times lead to actions at all.
pub(super) fn takes_actions(schedule: &Schedule) -> bool {
    let Some(state) = &schedule.head.state else { return true };
    !state.paused && (!state.limited_actions || state.remaining_actions > 0)
}

/// Whether an action may be taken, which counts if there are only so many. Manual ones always may.
fn take_one(draft: &mut Draft<'_>, manual: bool) -> bool {
    if manual {
        return true;
    }
    let Some(schedule) = draft.schedule_mut() else { return false };
    if !takes_actions(schedule) {
        return false;
    }
    let head = &mut *schedule.head;
    if let Some(state) = head.state.as_mut().filter(|state| state.limited_actions) {
        state.remaining_actions -= 1;
        head.conflict_token += 1;
    }
    true
}

fn note_wake(draft: &mut Draft<'_>, all_taken: bool) {
    let now = draft.now();
    let Some(schedule) = &draft.chain().schedule else { return };
    let next = next_time(schedule, &seed(draft, schedule));
    let goes_on = !all_taken || can_backfill(schedule);
    let wake = if goes_on { Some(now) } else { next.or_else(|| removal(schedule)) };
    if !goes_on && next.is_none() && wake.is_some_and(|wake| wake <= now) {
        draft.set_schedule(None);
        return;
    }
    let wake = wake.map(timestamp);
    if let Some(schedule) = draft.schedule_mut()
        && schedule.head.wake != wake
    {
        schedule.head.wake = wake;
    }
}

/// Whether the next times of a backfill have room in the buffer, and will leave it.
fn can_backfill(schedule: &Schedule) -> bool {
    let head = &schedule.head;
    !head.backfills.is_empty()
        && schedule.spec.is_ok()
        && head.buffered.len() < BACKFILL_BUFFER_MAX
        && head.starting.len() < STARTS_MAX
        && !head.running.iter().any(|run| run.asked)
}

/// The next time at which an action is to be taken.
fn next_time(schedule: &Schedule, seed: &str) -> Option<UnixNanos> {
    if !takes_actions(schedule) {
        return None;
    }
    super::show::future_times(schedule, seed, 0, 1).first().copied()
}

/// When the schedule goes, if nothing else happens to it.
fn removal(schedule: &Schedule) -> Option<UnixNanos> {
    let head = &schedule.head;
    if head.state.as_ref().is_some_and(|state| state.paused) || !head.backfills.is_empty() || !head.starting.is_empty()
    {
        return None;
    }
    let last_action = head.recent_actions.last().and_then(|action| action.actual_time);
    let last = [last_action, head.create_time, head.update_time].iter().flatten().map(nanos).max();
    last.map(|last| last.saturating_add(RETENTION))
}
