"""Workflow rules: they pause activities before they begin, until an operator lets them go on."""

import asyncio
from datetime import datetime, timedelta, timezone

import pytest
from temporalio import activity, workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.rules.v1 import WorkflowRuleAction, WorkflowRuleSpec
from temporalio.api.workflowservice.v1 import (
    CreateWorkflowRuleRequest,
    DeleteWorkflowRuleRequest,
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowRuleRequest,
    ListWorkflowRulesRequest,
    TriggerWorkflowRuleRequest,
    UnpauseActivityRequest,
)
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from conftest import cluster, until


@activity.defn
async def charge(fails: int) -> int:
    attempt = activity.info().attempt
    if attempt <= fails:
        raise ApplicationError("declined")
    return attempt


@workflow.defn
class Order:
    """Charges, on a queue of its own if it is told so: then the activity cannot ride with the workflow task."""

    @workflow.run
    async def run(self, fails: int, queue: str) -> int:
        return await workflow.execute_activity(
            charge,
            fails,
            task_queue=queue,
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50)),
        )


def order_worker(client, queue):
    return Worker(client, task_queue=queue, workflows=[Order], activities=[charge])


def spec(rule_id, predicate, visibility_query="", expires=None):
    rule = WorkflowRuleSpec(
        id=rule_id,
        activity_start=WorkflowRuleSpec.ActivityStartingTrigger(predicate=predicate),
        visibility_query=visibility_query,
        actions=[WorkflowRuleAction(activity_pause=WorkflowRuleAction.ActionActivityPause())],
    )
    if expires is not None:
        rule.expiration_time.FromDatetime(expires)
    return rule


async def create(client, rule, **options):
    request = CreateWorkflowRuleRequest(namespace=client.namespace, spec=rule, identity="operator", **options)
    return (await client.workflow_service.create_workflow_rule(request)).rule


async def delete(client, rule_id):
    request = DeleteWorkflowRuleRequest(namespace=client.namespace, rule_id=rule_id)
    await client.workflow_service.delete_workflow_rule(request, retry=True)


async def rules(client):
    request = ListWorkflowRulesRequest(namespace=client.namespace)
    return [rule.spec.id for rule in (await client.workflow_service.list_workflow_rules(request)).rules]


async def refused(call):
    with pytest.raises(RPCError) as error:
        await call
    return error.value.status, error.value.message


@pytest.fixture
async def enabled(client):
    """Rules are off unless the cluster was told otherwise; whatever a test leaves behind is removed."""
    try:
        await rules(client)
    except RPCError as error:
        assert (error.status, error.message) == (RPCStatusCode.UNIMPLEMENTED, "method ListWorkflowRules not supported")
        pytest.skip("frontend.workflowRulesAPIsEnabled is not set")
    yield
    for rule_id in await rules(client):
        await delete(client, rule_id)


async def pending(client, workflow_id):
    request = DescribeWorkflowExecutionRequest(
        namespace=client.namespace, execution=WorkflowExecution(workflow_id=workflow_id)
    )
    return list((await client.workflow_service.describe_workflow_execution(request, retry=True)).pending_activities)


def is_paused(client, workflow_id):
    async def condition():
        activities = await pending(client, workflow_id)
        return [a.state for a in activities] == [PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED]

    return condition


async def unpause(client, workflow_id):
    request = UnpauseActivityRequest(
        namespace=client.namespace, execution=WorkflowExecution(workflow_id=workflow_id), unpause_all=True
    )
    await client.workflow_service.unpause_activity(request, retry=True)


async def test_rules_are_kept(client, clients, name, enabled):
    created = await create(client, spec(name, "Attempts > 100"), description="why", request_id="once")
    assert (created.created_by_identity, created.description) == ("operator", "why")
    assert created.HasField("create_time")
    # The same call again; and another one.
    assert await create(client, spec(name, "Attempts > 100"), request_id="once") == created
    assert await refused(create(client, spec(name, "Attempts > 1"))) == (
        RPCStatusCode.INVALID_ARGUMENT,
        "Workflow Rule with this ID already exists.",
    )
    for other in clients:
        request = DescribeWorkflowRuleRequest(namespace=client.namespace, rule_id=name)
        assert (await other.workflow_service.describe_workflow_rule(request)).rule == created
        assert name in await rules(other)
    await delete(clients[0], name)
    gone = (RPCStatusCode.INVALID_ARGUMENT, "Workflow Rule with this ID not Found.")
    assert await refused(delete(client, name)) == gone
    assert await refused(client.workflow_service.describe_workflow_rule(request)) == gone
    assert await refused(create(client, spec("", ""))) == (
        RPCStatusCode.INVALID_ARGUMENT,
        "Workflow Rule ID is not set.",
    )
    trigger = TriggerWorkflowRuleRequest(namespace=client.namespace)
    assert await refused(client.workflow_service.trigger_workflow_rule(trigger)) == (
        RPCStatusCode.UNIMPLEMENTED,
        "method TriggerWorkflowRule not supported",
    )


async def test_what_has_expired_makes_room(client, name, enabled):
    past = datetime.now(timezone.utc) - timedelta(seconds=1)
    await create(client, spec(name + "-old", "Attempts > 100", expires=past))
    for number in range(9):
        await create(client, spec(f"{name}-{number}", "Attempts > 100"))
    await create(client, spec(name + "-last", "Attempts > 100"))
    assert name + "-old" not in await rules(client)
    assert await refused(create(client, spec(name + "-more", "Attempts > 100"))) == (
        RPCStatusCode.INVALID_ARGUMENT,
        "Workflow Rule limit exceeded. Max: 10",
    )


async def test_a_rule_holds_activities_back(client, clients, worker_client, name, enabled):
    """Of a workflow that is meant, whichever way its activity goes to a worker; not of another one."""
    await create(client, spec(name, "ActivityType = 'charge'", f"WorkflowId STARTS_WITH '{name}-held'"), description="down")
    async with order_worker(worker_client, name), order_worker(worker_client, name + "-other"):
        rides = await client.start_workflow(Order.run, args=[0, name], id=name + "-held-rides", task_queue=name)
        waits = await client.start_workflow(Order.run, args=[0, name + "-other"], id=name + "-held-waits", task_queue=name)
        free = await client.start_workflow(Order.run, args=[0, name], id=name + "-free", task_queue=name)
        assert await free.result() == 1
        for handle in (rides, waits):
            await until(is_paused(clients[0], handle.id))
            info = (await pending(clients[0], handle.id))[0]
            assert (info.pause_info.rule.rule_id, info.pause_info.rule.reason) == (name, "down")
            assert info.pause_info.rule.identity == "operator" and info.attempt == 1
        query = f"WorkflowId STARTS_WITH '{name}' AND TemporalPauseInfo = 'property:activityType=charge'"
        assert (await client.count_workflows(query)).count == 2
        # It survives the rule, until it is told to go on.
        await delete(client, name)
        for handle in (rides, waits):
            assert await is_paused(clients[2], handle.id)()
            await unpause(clients[2], handle.id)
            assert await handle.result() == 1
        assert (await client.count_workflows(query)).count == 0


async def test_a_rule_for_those_that_fail(client, worker_client, name, enabled):
    await create(client, spec(name, f"Attempts > 2 AND TaskQueue = '{name}'"))
    async with order_worker(worker_client, name):
        handle = await client.start_workflow(Order.run, args=[4, name], id=name, task_queue=name)
        await until(is_paused(client, name))
        info = (await pending(client, name))[0]
        assert (info.attempt, info.last_failure.message) == (3, "declined")
        await delete(client, name)
        await unpause(client, name)
        assert await handle.result() == 5


async def test_a_rule_holds_when_nodes_die(client, clients, name, enabled):
    """Node 1 dies by kill -9 and comes back: the rule is known to all, and what it paused stays so."""
    await create(client, spec(name, "ActivityType = 'charge'", f"WorkflowId STARTS_WITH '{name}'"))
    async with order_worker(clients[2], name):
        handles = [
            await client.start_workflow(Order.run, args=[0, name], id=f"{name}-{n}", task_queue=name) for n in range(6)
        ]
        await until(is_paused(client, handles[0].id))
        await asyncio.to_thread(cluster, "kill", "1")
        try:
            late = await client.start_workflow(Order.run, args=[0, name], id=f"{name}-late", task_queue=name)
            for handle in [*handles, late]:
                await until(is_paused(client, handle.id))
        finally:
            await asyncio.to_thread(cluster, "start", "1")
        await delete(client, name)
        for handle in [*handles, late]:
            await unpause(client, handle.id)
            assert await handle.result() == 1
