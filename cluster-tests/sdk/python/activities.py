"""Activities whose behaviour their input decides."""

import asyncio
from datetime import timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError

# Task tokens of activities that wait to be completed from outside, by activity id.
waiting = {}
# How an activity ended that was asked to stop.
stopped = {}


@activity.defn
async def greet(name: str) -> str:
    return f"Hello, {name}!"


@activity.defn
async def fail_until(attempt: int) -> int:
    """Fails until its n-th attempt, and says which one it was."""
    if activity.info().attempt < attempt:
        raise ApplicationError("not yet", activity.info().attempt)
    return activity.info().attempt


@activity.defn
async def fail_for_good(message: str) -> None:
    raise ApplicationError(message, 42, type="ForGood", non_retryable=True)


@activity.defn
async def back_off() -> int:
    """Asks for its own delay before the second attempt."""
    if activity.info().attempt == 1:
        raise ApplicationError("later", next_retry_delay=timedelta(milliseconds=300))
    return activity.info().attempt


@activity.defn
async def count_with_heartbeats(steps: int) -> list[int]:
    """Counts, dies once in the middle, and goes on where its heartbeat says: [first step of this attempt, steps]."""
    details = activity.info().heartbeat_details
    first = details[0] if details else 0
    for step in range(first, steps):
        activity.heartbeat(step + 1)
        await asyncio.sleep(0.05)
        if step == steps // 2 and activity.info().attempt == 1:
            raise ApplicationError("died")
    return [first, steps]


@activity.defn
async def hang(heartbeats: bool) -> None:
    """Never ends by itself."""
    try:
        while True:
            if heartbeats:
                activity.heartbeat()
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        stopped[activity.info().workflow_id] = "cancelled"
        raise


@activity.defn
async def wait_for_outside() -> str:
    info = activity.info()
    waiting[info.activity_id] = info.task_token
    activity.raise_complete_async()


@activity.defn
async def blob(size: int) -> str:
    return "x" * size


ALL = [greet, fail_until, fail_for_good, back_off, count_with_heartbeats, hang, wait_for_outside, blob]
