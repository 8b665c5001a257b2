"""Schedules start workflows at their times, exactly once, whatever happens to the cluster."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest
from temporalio.api.workflowservice.v1 import (
    CountSchedulesRequest,
    CreateScheduleRequest,
    DescribeScheduleRequest,
    ListScheduleMatchingTimesRequest,
    UpdateScheduleRequest,
)
from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleBackfill,
    ScheduleCalendarSpec,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    WorkflowExecutionStatus,
)
from temporalio.service import RPCError, RPCStatusCode

from conftest import NODES, cluster, until
from workflows import Failing, Greeting, LastResult, Waiting


def greeting(name, workflow=Greeting.run, args=("you",), **options):
    return ScheduleActionStartWorkflow(workflow, args=list(args), id=name, task_queue=name, **options)


def every(seconds):
    return ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=seconds))])


async def actions(handle):
    return (await handle.describe()).info.num_actions


async def test_a_schedule_starts_its_workflow_at_each_time(client, worker, name):
    handle = await client.create_schedule(name, Schedule(action=greeting(name), spec=every(1)))
    await until(lambda: _at_least(handle, 3))
    info = (await handle.describe()).info
    await handle.delete()
    for action in info.recent_actions:
        late = action.started_at - action.scheduled_at
        assert timedelta(0) <= late < timedelta(seconds=1), late
        assert action.action.workflow_id == f"{name}-{action.scheduled_at:%Y-%m-%dT%H:%M:%SZ}"
    first = client.get_workflow_handle(info.recent_actions[0].action.workflow_id)
    assert await first.result() == "Hello, you!"
    attributes = (await first.describe()).search_attributes
    assert attributes["TemporalScheduledById"] == [name]
    assert attributes["TemporalScheduledStartTime"] == [info.recent_actions[0].scheduled_at]


async def _at_least(handle, count):
    return await actions(handle) >= count


async def test_a_description_shows_what_was_asked_for(client, name):
    schedule = Schedule(
        action=greeting(name, memo={"of": "the workflow"}, execution_timeout=timedelta(minutes=5)),
        spec=ScheduleSpec(
            calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(8, 18, 2)], day_of_week=[ScheduleRange(1, 5)], comment="work")],
            cron_expressions=["30 4 1 * *"],
            skip=[ScheduleCalendarSpec(month=[ScheduleRange(8)])],
            jitter=timedelta(seconds=30),
            time_zone_name="Europe/Berlin",
        ),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.BUFFER_ONE, catchup_window=timedelta(hours=1), pause_on_failure=True),
        state=ScheduleState(note="for now", paused=True, limited_actions=True, remaining_actions=7),
    )
    handle = await client.create_schedule(name, schedule, memo={"of": "the schedule"})
    with pytest.raises(ScheduleAlreadyRunningError):
        await client.create_schedule(name, schedule)
    described = await handle.describe()
    spec = described.schedule.spec
    assert (spec.time_zone_name, spec.jitter, spec.cron_expressions) == ("Europe/Berlin", timedelta(seconds=30), [])
    assert [calendar.comment for calendar in spec.calendars] == ["work", None]
    assert described.schedule.policy == schedule.policy
    assert described.schedule.state == schedule.state
    assert await described.memo_value("of") == "the schedule"
    # As many as are left, with jitter, and none in August.
    times = described.info.next_action_times
    assert len(times) == 7 and times == sorted(times) and all(time.month != 8 for time in times)
    await handle.delete()
    with pytest.raises(RPCError) as missing:
        await handle.describe()
    assert missing.value.status == RPCStatusCode.NOT_FOUND


async def test_triggers_and_backfills(client, worker, name):
    paused = Schedule(action=greeting(name), spec=every(60), state=ScheduleState(paused=True))
    handle = await client.create_schedule(name, paused, trigger_immediately=True)
    assert await actions(handle) == 1
    start = datetime(2026, 1, 1, 12, 0, tzinfo=timezone.utc)
    await handle.backfill(ScheduleBackfill(start_at=start, end_at=start + timedelta(minutes=300), overlap=ScheduleOverlapPolicy.ALLOW_ALL))
    await until(lambda: _at_least(handle, 302))
    assert await actions(handle) == 302
    for minute in (0, 150, 300):
        backfilled = client.get_workflow_handle(f"{name}-{start + timedelta(minutes=minute):%Y-%m-%dT%H:%M:%SZ}")
        assert await backfilled.result() == "Hello, you!"
    await handle.delete()


async def test_pausing_and_limited_actions(client, worker, name):
    limited = ScheduleState(paused=True, limited_actions=True, remaining_actions=2)
    handle = await client.create_schedule(name, Schedule(action=greeting(name), spec=every(1), state=limited))
    await handle.unpause(note="go")
    await until(lambda: _at_least(handle, 2))
    await triggered(handle, ScheduleOverlapPolicy.ALLOW_ALL)
    described = await handle.describe()
    assert (described.info.num_actions, described.schedule.state.remaining_actions) == (3, 0)
    assert (described.info.next_action_times, described.schedule.state.note) == ([], "go")
    await handle.pause(note="stop")
    state = (await handle.describe()).schedule.state
    assert (state.paused, state.note) == (True, "stop")
    await handle.delete()


async def _running(handle):
    return [execution.workflow_id for execution in (await handle.describe()).info.running_actions]


async def triggered(handle, overlap=None):
    """Triggers at a second of its own: ids name the second."""
    await asyncio.sleep(1.0)
    await handle.trigger(overlap=overlap)


async def test_overlaps(client, worker, name):
    waiting = greeting(name, Waiting.run, ())
    handle = await client.create_schedule(name, Schedule(action=waiting, spec=ScheduleSpec()))
    await handle.trigger()
    [first] = await _running(handle)

    await triggered(handle)
    info = (await handle.describe()).info
    assert (info.num_actions, info.num_actions_skipped_overlap) == (1, 1)

    for _ in range(2):
        await triggered(handle, ScheduleOverlapPolicy.BUFFER_ONE)
    info = (await handle.describe()).info
    assert (info.num_actions, info.num_actions_skipped_overlap) == (1, 2)
    await client.get_workflow_handle(first).signal(Waiting.go)

    async def next_one(former):
        running = await _running(handle)
        return len(running) == 1 and running[0] != former

    await until(lambda: next_one(first))
    [second] = await _running(handle)

    await triggered(handle, ScheduleOverlapPolicy.CANCEL_OTHER)
    await until(lambda: next_one(second))
    assert (await client.get_workflow_handle(second).describe()).status == WorkflowExecutionStatus.CANCELED
    [third] = await _running(handle)

    await triggered(handle, ScheduleOverlapPolicy.TERMINATE_OTHER)
    await until(lambda: next_one(third))
    assert (await client.get_workflow_handle(third).describe()).status == WorkflowExecutionStatus.TERMINATED
    [fourth] = await _running(handle)

    await triggered(handle, ScheduleOverlapPolicy.ALLOW_ALL)
    await until(lambda: _at_least(handle, 5))
    assert await _running(handle) == [fourth]

    for _ in range(3):
        await triggered(handle, ScheduleOverlapPolicy.BUFFER_ALL)
    for count in range(6, 9):
        for running in await _running(handle):
            await client.get_workflow_handle(running).signal(Waiting.go)
        await until(lambda: _at_least(handle, count))
    await handle.delete()


async def test_results_go_on_and_failures_pause(client, worker, name):
    handle = await client.create_schedule(name, Schedule(action=greeting(name, LastResult.run, ()), spec=ScheduleSpec()))
    for expected in (1, 2, 3):
        await handle.trigger()
        recent = (await handle.describe()).info.recent_actions
        assert len(recent) == expected
        last = client.get_workflow_handle(recent[-1].action.workflow_id, run_id=recent[-1].action.first_execution_run_id)
        assert await last.result() == expected
    await handle.delete()

    failing = Schedule(
        action=greeting(f"{name}-f", Failing.run, ("broken",), retry_policy=None),
        spec=ScheduleSpec(),
        policy=SchedulePolicy(pause_on_failure=True),
    )
    failing.action.task_queue = name
    handle = await client.create_schedule(f"{name}-f", failing)
    await handle.trigger()

    async def is_paused():
        return (await handle.describe()).schedule.state.paused

    await until(is_paused)
    note = (await handle.describe()).schedule.state.note
    assert note.startswith(f"paused due to workflow failure: {name}-f-") and note.endswith(": broken"), note
    await handle.delete()


async def test_listings(client, clients, name):
    ids = [f"{name}-{n}" for n in range(5)]
    for n, schedule_id in enumerate(ids):
        state = ScheduleState(paused=n % 2 == 0, note="listed")
        await client.create_schedule(schedule_id, Schedule(action=greeting(name), spec=every(3600), state=state))

    async def listed(client, query=None):
        entries = [entry async for entry in await client.list_schedules(query, page_size=2)]
        return sorted(entry.id for entry in entries if entry.id.startswith(name))

    for other in clients:
        assert await listed(other) == ids
        assert await listed(other, "TemporalSchedulePaused = false") == [ids[1], ids[3]]
        assert await listed(other, f"ScheduleId = '{ids[2]}'") == [ids[2]]
    with pytest.raises(RPCError) as refused:
        await listed(client, "WorkflowId = 'x'")
    assert "cannot filter on" in str(refused.value)
    workflows = [run async for run in client.list_workflows("WorkflowId STARTS_WITH 'temporal-sys-scheduler'")]
    assert workflows == [], "schedules are no workflows"
    for schedule_id in ids:
        await client.get_schedule_handle(schedule_id).delete()
    assert await listed(client) == []


async def test_what_people_write_becomes_calendars_and_intervals(client, name):
    """The requests of `temporal schedule create --cron/--calendar/--interval` and `matching times`, as they are sent."""
    request = CreateScheduleRequest(namespace=client.namespace, schedule_id=name, request_id=name)
    spec = request.schedule.spec
    spec.cron_string.extend(["0 30 9 * * mon-fri * # stand-up", "@every 36h/12h"])
    spec.calendar.add(hour="17", day_of_week="Fri")
    request.schedule.state.paused = True
    created = await client.workflow_service.create_schedule(request)
    described = await client.workflow_service.describe_schedule(DescribeScheduleRequest(namespace=client.namespace, schedule_id=name))
    assert described.conflict_token == created.conflict_token
    spec = described.schedule.spec
    assert (list(spec.cron_string), list(spec.calendar)) == ([], [])
    friday, standup = spec.structured_calendar
    assert (standup.comment, [(r.start, r.end, r.step) for r in standup.day_of_week]) == ("stand-up", [(1, 5, 1)])
    assert [(r.start, r.end, r.step) for r in friday.hour] == [(17, 17, 1)]
    assert [(i.interval.ToSeconds(), i.phase.ToSeconds()) for i in spec.interval] == [(36 * 3600, 12 * 3600)]

    matching = ListScheduleMatchingTimesRequest(namespace=client.namespace, schedule_id=name)
    matching.start_time.FromDatetime(datetime(2026, 1, 1))
    matching.end_time.FromDatetime(datetime(2026, 1, 4))
    times = await client.workflow_service.list_schedule_matching_times(matching)
    assert [f"{time.ToDatetime():%d %H:%M}" for time in times.start_time] == ["01 09:30", "01 12:00", "02 09:30", "02 17:00", "03 00:00"]

    stale = UpdateScheduleRequest(namespace=client.namespace, schedule_id=name, conflict_token=b"\0" * 7 + b"\x09", request_id="u")
    with pytest.raises(RPCError) as refused:
        await client.workflow_service.update_schedule(stale)
    assert refused.value.status == RPCStatusCode.FAILED_PRECONDITION

    count = await client.workflow_service.count_schedules(CountSchedulesRequest(namespace=client.namespace, query=f"ScheduleId = '{name}'"))
    assert count.count == 1
    await client.get_schedule_handle(name).delete()

    request.schedule.spec.cron_string.append("TZ=Nowhere/Land @daily")
    with pytest.raises(RPCError) as refused:
        await client.workflow_service.create_schedule(request)
    assert refused.value.message == "Invalid schedule spec: conflicting timezone names"


async def test_an_update_changes_what_comes(client, worker, name):
    handle = await client.create_schedule(name, Schedule(action=greeting(name), spec=every(3600)))

    def faster(input):
        schedule = input.description.schedule
        schedule.spec = every(1)
        return ScheduleUpdate(schedule)

    await handle.update(faster)
    described = await handle.describe()
    assert described.info.last_updated_at is not None
    await until(lambda: _at_least(handle, 2))
    await handle.delete()


async def test_no_action_is_lost_or_taken_twice_when_leaders_die(client, name):
    """Schedules run while each node in turn is killed; no worker is needed to count their starts."""
    spec = every(1)
    options = {"policy": SchedulePolicy(overlap=ScheduleOverlapPolicy.ALLOW_ALL)}
    handles = [
        await client.create_schedule(f"{name}-{n}", Schedule(action=greeting(f"{name}-{n}"), spec=spec, **options)) for n in range(6)
    ]
    try:
        for node in ("1", "3"):
            await asyncio.to_thread(cluster, "kill", node)
            before = await actions(handles[0])
            await until(lambda: _at_least(handles[0], before + 3))
            await asyncio.to_thread(cluster, "start", node)
        for n, handle in enumerate(handles):
            await handle.pause()
            described = await handle.describe()
            count = described.info.num_actions
            assert (described.info.num_actions_missed_catchup_window, described.info.num_actions_skipped_overlap) == (0, 0)
            runs = [run async for run in client.list_workflows(f"TemporalScheduledById = '{name}-{n}'")]
            seconds = Counter(run.search_attributes["TemporalScheduledStartTime"][0] for run in runs)
            assert set(seconds.values()) == {1}, "a second was taken twice"
            assert len(runs) == count
            first, last = min(seconds), max(seconds)
            assert (last - first).total_seconds() + 1 == count, "a second was lost"
    finally:
        for handle in handles:
            await handle.delete()
