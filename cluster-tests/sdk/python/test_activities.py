"""Activities: results, retries, timeouts, heartbeats, cancellation, completion from outside."""

import asyncio

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError

import activities
from conftest import until
from workflows import AwaitsOutside, CancelsActivity, Greeting, Retries, Timeouts, Wide


async def test_a_first_workflow(client, worker, name):
    assert await client.execute_workflow(Greeting.run, "World", id=name, task_queue=name) == "Hello, World!"


async def test_retries_heartbeats_and_failures(client, worker, name):
    result = await client.execute_workflow(Retries.run, id=name, task_queue=name)
    assert result == [
        3,
        2,
        [6, 10],
        ["MAXIMUM_ATTEMPTS_REACHED", "not yet", 2],
        ["NON_RETRYABLE_FAILURE", "ForGood", 42],
    ]


async def test_the_four_timeouts(client, worker, name):
    result = await client.execute_workflow(Timeouts.run, id=name, task_queue=name)
    assert result == ["START_TO_CLOSE", "SCHEDULE_TO_CLOSE", "SCHEDULE_TO_START", "HEARTBEAT"]


@pytest.mark.parametrize("kind", ["TRY_CANCEL", "WAIT_CANCELLATION_COMPLETED", "ABANDON"])
async def test_cancelling_an_activity(client, worker, name, kind):
    assert await client.execute_workflow(CancelsActivity.run, kind, id=name, task_queue=name) == "CancelledError"
    if kind == "WAIT_CANCELLATION_COMPLETED":
        assert activities.stopped[name] == "cancelled"


async def test_completion_by_token(client, worker, name):
    handle = await client.start_workflow(AwaitsOutside.run, name, id=name, task_queue=name)
    await until(lambda: asyncio.sleep(0, name in activities.waiting))
    outside = client.get_async_activity_handle(task_token=activities.waiting[name])
    await outside.heartbeat("still there")
    await outside.complete("done")
    assert await handle.result() == "done"


async def test_completion_by_id(client, worker, name):
    handle = await client.start_workflow(AwaitsOutside.run, name, id=name, task_queue=name)
    await until(lambda: asyncio.sleep(0, name in activities.waiting))
    outside = client.get_async_activity_handle(workflow_id=name, run_id=handle.result_run_id, activity_id=name)
    await outside.heartbeat("still there")
    description = await handle.describe()
    assert description.raw_description.pending_activities[0].activity_id == name
    await outside.complete("by id")
    assert await handle.result() == "by id"


async def test_failure_from_outside(client, worker, name):
    handle = await client.start_workflow(AwaitsOutside.run, name, id=name, task_queue=name)
    await until(lambda: asyncio.sleep(0, name in activities.waiting))
    outside = client.get_async_activity_handle(workflow_id=name, run_id=handle.result_run_id, activity_id=name)
    await outside.fail(ApplicationError("from outside", non_retryable=True))
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    assert isinstance(failure.value.cause, ActivityError)
    assert failure.value.cause.cause.message == "from outside"


async def test_many_activities_at_once(client, worker, name):
    assert await client.execute_workflow(Wide.run, 100, id=name, task_queue=name) == 100
