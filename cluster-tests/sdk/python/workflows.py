"""Workflows that together use all that a worker may ask of the server."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, ChildWorkflowError, TimeoutError
from temporalio.workflow import ActivityCancellationType, ChildWorkflowCancellationType, ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    import activities

SHORT = timedelta(milliseconds=500)
LONG = timedelta(seconds=60)
FAST_RETRY = RetryPolicy(initial_interval=timedelta(milliseconds=50), maximum_interval=timedelta(milliseconds=200))
NO_RETRY = RetryPolicy(maximum_attempts=1)


@workflow.defn
class Greeting:
    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(activities.greet, name, start_to_close_timeout=LONG)


@workflow.defn
class Retries:
    @workflow.run
    async def run(self) -> list:
        third = await workflow.execute_activity(
            activities.fail_until, 3, start_to_close_timeout=LONG, retry_policy=FAST_RETRY
        )
        own_delay = await workflow.execute_activity(activities.back_off, start_to_close_timeout=LONG)
        resumed = await workflow.execute_activity(
            activities.count_with_heartbeats, 10, start_to_close_timeout=LONG, heartbeat_timeout=LONG, retry_policy=FAST_RETRY
        )
        try:
            await workflow.execute_activity(
                activities.fail_until,
                9,
                start_to_close_timeout=LONG,
                retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=10), maximum_attempts=2),
            )
            gave_up = None
        except ActivityError as error:
            gave_up = [error.retry_state.name, error.cause.message, error.cause.details[0]]
        try:
            await workflow.execute_activity(activities.fail_for_good, "broken", start_to_close_timeout=LONG)
            for_good = None
        except ActivityError as error:
            for_good = [error.retry_state.name, error.cause.type, error.cause.details[0]]
        return [third, own_delay, resumed, gave_up, for_good]


@workflow.defn
class Timeouts:
    """Runs into each of the four timeouts of activities; the types that it caught."""

    @workflow.run
    async def run(self) -> list[str]:
        async def caught(activity, *args, **options) -> str:
            try:
                await workflow.execute_activity(activity, *args, **options)
                return "none"
            except ActivityError as error:
                return error.cause.type.name if isinstance(error.cause, TimeoutError) else repr(error.cause)

        return await asyncio.gather(
            caught(activities.hang, False, start_to_close_timeout=SHORT, retry_policy=NO_RETRY),
            caught(activities.hang, False, schedule_to_close_timeout=SHORT),
            caught(
                activities.greet, "nobody", task_queue="nobody-polls", schedule_to_start_timeout=SHORT, schedule_to_close_timeout=LONG
            ),
            caught(
                activities.hang, False, start_to_close_timeout=LONG, heartbeat_timeout=SHORT, retry_policy=NO_RETRY
            ),
        )


@workflow.defn
class CancelsActivity:
    """Cancels a running activity itself, and says how that ended."""

    @workflow.run
    async def run(self, kind: str) -> str:
        handle = workflow.start_activity(
            activities.hang,
            True,
            start_to_close_timeout=LONG,
            heartbeat_timeout=timedelta(seconds=2),
            cancellation_type=ActivityCancellationType[kind],
        )
        await asyncio.sleep(0.5)
        handle.cancel()
        try:
            await handle
            return "ended"
        except ActivityError as error:
            return type(error.cause).__name__


@workflow.defn
class AwaitsOutside:
    @workflow.run
    async def run(self, activity_id: str) -> str:
        return await workflow.execute_activity(
            activities.wait_for_outside, activity_id=activity_id, start_to_close_timeout=LONG, heartbeat_timeout=LONG, retry_policy=NO_RETRY
        )


@workflow.defn
class Timers:
    @workflow.run
    async def run(self) -> float:
        began = workflow.time()
        forgotten = asyncio.create_task(asyncio.sleep(3600))
        await asyncio.gather(asyncio.sleep(0.2), asyncio.sleep(0.4), asyncio.sleep(0.6))
        forgotten.cancel()
        return workflow.time() - began


@workflow.defn
class Inbox:
    """Collects signals until "done", and answers queries meanwhile."""

    def __init__(self) -> None:
        self.items: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: "done" in self.items)
        return self.items

    @workflow.signal
    def put(self, item: str) -> None:
        self.items.append(item)

    @workflow.query
    def seen(self) -> list[str]:
        return self.items

    @workflow.query
    def broken(self) -> None:
        raise ApplicationError("no answer")


@workflow.defn
class Parent:
    """Starts children of every kind, signals one, cancels one, and leaves some behind."""

    @workflow.run
    async def run(self, prefix: str) -> list:
        greeting = await workflow.execute_child_workflow(Greeting.run, "child", id=f"{prefix}-greeting")
        inbox = await workflow.start_child_workflow(Inbox.run, id=f"{prefix}-inbox")
        await inbox.signal(Inbox.put, "one")
        await workflow.get_external_workflow_handle(f"{prefix}-inbox").signal(Inbox.put, "done")
        items = await inbox
        sleeper = await workflow.start_child_workflow(
            Sleeper.run, id=f"{prefix}-sleeper", cancellation_type=ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED
        )
        sleeper.cancel()
        try:
            await sleeper
            cancelled = "ended"
        except ChildWorkflowError as error:
            cancelled = type(error.cause).__name__
        try:
            await workflow.execute_child_workflow(Fails.run, "child", id=f"{prefix}-fails")
            failed = "ended"
        except ChildWorkflowError as error:
            failed = error.cause.message
        try:
            await workflow.get_external_workflow_handle(f"{prefix}-nobody").signal("put", "x")
            nobody = "delivered"
        except ApplicationError as error:
            nobody = error.type or "ApplicationError"
        return [greeting, items, cancelled, failed, nobody]


@workflow.defn
class Leaves:
    """Starts a child with each parent-close policy and ends."""

    @workflow.run
    async def run(self, prefix: str) -> None:
        for policy in (ParentClosePolicy.ABANDON, ParentClosePolicy.TERMINATE, ParentClosePolicy.REQUEST_CANCEL):
            await workflow.start_child_workflow(Sleeper.run, id=f"{prefix}-{policy.name}", parent_close_policy=policy)


@workflow.defn
class Sleeper:
    @workflow.run
    async def run(self) -> str:
        await asyncio.sleep(3600)
        return "slept"


@workflow.defn
class Fails:
    @workflow.run
    async def run(self, who: str) -> None:
        raise ApplicationError(f"{who} fails", non_retryable=True)


@workflow.defn
class FailsOnce:
    """Fails in its first run and succeeds in the one that its retry policy starts."""

    @workflow.run
    async def run(self) -> int:
        if workflow.info().attempt == 1:
            raise ApplicationError("once")
        return workflow.info().attempt


@workflow.defn
class CancelsOther:
    @workflow.run
    async def run(self, other: str) -> str:
        await workflow.get_external_workflow_handle(other).cancel()
        return "asked"


@workflow.defn
class CountsDown:
    @workflow.run
    async def run(self, left: int) -> str:
        if left > 0:
            workflow.continue_as_new(left - 1)
        return workflow.info().continued_run_id or ""


@workflow.defn
class LocalActivities:
    @workflow.run
    async def run(self) -> list:
        greeting = await workflow.execute_local_activity(activities.greet, "local", start_to_close_timeout=LONG)
        third = await workflow.execute_local_activity(
            activities.fail_until, 3, start_to_close_timeout=LONG, retry_policy=FAST_RETRY
        )
        both = await asyncio.gather(
            *[workflow.execute_local_activity(activities.greet, str(n), start_to_close_timeout=LONG) for n in range(5)]
        )
        try:
            await workflow.execute_local_activity(activities.fail_for_good, "local", start_to_close_timeout=LONG)
            failed = "ended"
        except ApplicationError as error:
            failed = error.type
        patched = workflow.patched("a-marker")
        return [greeting, third, both, failed, patched]


@workflow.defn
class CleansUp:
    """Is cancelled, and still runs an activity before it says so."""

    @workflow.run
    async def run(self) -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return await workflow.execute_activity(activities.greet, "cleanup", start_to_close_timeout=LONG)
        return "slept"


@workflow.defn
class Wide:
    """Many activities at once."""

    @workflow.run
    async def run(self, width: int) -> int:
        greetings = await asyncio.gather(
            *[workflow.execute_activity(activities.greet, str(n), start_to_close_timeout=LONG) for n in range(width)]
        )
        return len(set(greetings))


@workflow.defn
class Steady:
    """A step of work again and again: what runs while nodes die."""

    @workflow.run
    async def run(self, steps: int) -> list[str]:
        done = []
        for step in range(steps):
            done.append(await workflow.execute_activity(activities.greet, str(step), start_to_close_timeout=timedelta(seconds=5)))
            await asyncio.sleep(0.1)
        return done


@workflow.defn
class Account:
    """Is updated until it is closed; says what it holds then."""

    def __init__(self) -> None:
        self.held = 0
        self.closed = False
        self.noted: list[str] = []

    @workflow.run
    async def run(self) -> int:
        await workflow.wait_condition(lambda: self.closed and workflow.all_handlers_finished())
        return self.held

    @workflow.update
    def deposit(self, amount: int) -> int:
        self.held += amount
        return self.held

    @deposit.validator
    def check_deposit(self, amount: int) -> None:
        if amount <= 0:
            raise ApplicationError("nothing to deposit")

    @workflow.update
    async def settle(self) -> int:
        await workflow.wait_condition(lambda: self.closed)
        return self.held

    @workflow.signal
    def note(self, text: str) -> None:
        self.noted.append(text)

    @workflow.signal
    def close(self) -> None:
        self.closed = True

    @workflow.query
    def balance(self) -> int:
        return self.held

    @workflow.query
    def notes(self) -> list[str]:
        return self.noted


@workflow.defn
class Hops:
    """Continues as new after every update."""

    def __init__(self) -> None:
        self.hopped = False

    @workflow.run
    async def run(self, left: int) -> None:
        await workflow.wait_condition(lambda: self.hopped and workflow.all_handlers_finished())
        workflow.continue_as_new(left - 1)

    @workflow.update
    def hop(self) -> None:
        self.hopped = True


@workflow.defn
class Waiting:
    def __init__(self) -> None:
        self.may_go = False

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: self.may_go)

    @workflow.signal
    def go(self) -> None:
        self.may_go = True


@workflow.defn
class LastResult:
    """Counts the runs of its schedule."""

    @workflow.run
    async def run(self) -> int:
        return (workflow.get_last_completion_result(int) or 0) + 1


@workflow.defn
class Failing:
    @workflow.run
    async def run(self, message: str) -> None:
        raise ApplicationError(message)


ALL = [
    Failing,
    LastResult,
    Waiting,
    Account,
    Hops,
    Greeting,
    Retries,
    Timeouts,
    CancelsActivity,
    AwaitsOutside,
    Timers,
    Inbox,
    Parent,
    Leaves,
    Sleeper,
    Fails,
    FailsOnce,
    CancelsOther,
    CountsDown,
    LocalActivities,
    CleansUp,
    Wide,
    Steady,
]
