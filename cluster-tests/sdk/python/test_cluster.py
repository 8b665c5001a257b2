"""Any node will do, and none has to live."""

import asyncio
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import Replayer

import workflows
from conftest import NODES, cluster, make_worker, until
from workflows import Greeting, LocalActivities, Parent, Steady, Timers


async def test_every_node_tells_the_same_history(client, clients, worker, name):
    handle = await client.start_workflow(Parent.run, name, id=name, task_queue=name)
    await handle.result()
    histories = [
        (await other.get_workflow_handle(name, run_id=handle.result_run_id).fetch_history()).to_json() for other in clients
    ]
    assert histories[0] == histories[1] == histories[2]


async def test_histories_replay(client, worker, name):
    """The SDK's own replayer accepts what the server wrote."""
    for workflow, args in [(Greeting, ["World"]), (Timers, []), (LocalActivities, []), (Parent, [name])]:
        workflow_id = f"{name}-{workflow.__name__}"
        handle = await client.start_workflow(workflow.run, args=args, id=workflow_id, task_queue=name)
        await handle.result()
        await Replayer(workflows=workflows.ALL).replay_workflow(await handle.fetch_history())


async def test_each_node_serves_clients_and_workers(clients, name):
    for place, client in enumerate(clients):
        async with make_worker(clients[(place + 1) % 3], f"{name}-{place}"):
            result = await client.execute_workflow(Greeting.run, str(place), id=f"{name}-{place}", task_queue=f"{name}-{place}")
            assert result == f"Hello, {place}!"


async def test_a_worker_survives_the_death_of_its_node(client, name):
    """The worker's only address is node 3, which dies by kill -9 and comes back. Meanwhile a second worker on
    node 1 and the client on node 2 go on."""
    expected = [f"Hello, {n}!" for n in range(30)]
    async with make_worker(await Client.connect(NODES[2]), name):
        handles = [
            await client.start_workflow(Steady.run, 30, id=f"{name}-{n}", task_queue=name, task_timeout=timedelta(seconds=2))
            for n in range(10)
        ]

        async def under_way():
            histories = await asyncio.gather(*[handle.fetch_history() for handle in handles])
            return all(len(history.events) > 20 for history in histories)

        await until(under_way)
        await asyncio.to_thread(cluster, "kill", "3")
        try:
            async with make_worker(await Client.connect(NODES[0]), name):
                late = await client.start_workflow(Steady.run, 5, id=f"{name}-late", task_queue=name)
                assert await late.result() == expected[:5]
        finally:
            await asyncio.to_thread(cluster, "start", "3")
        # Only the worker on node 3 is left: it has found its node again.
        assert await asyncio.gather(*[handle.result() for handle in handles]) == [expected] * 10
        after = await client.execute_workflow(Greeting.run, "after", id=f"{name}-after", task_queue=name)
        assert after == "Hello, after!"
