"""A cluster of three nodes, given by its addresses: clients talk to node 2, workers to node 3."""

import asyncio
import functools
import inspect
import os
import subprocess
import uuid
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

import activities
import workflows

NODES = os.environ.get("BRISTLECONE_NODES", "127.0.0.1:7233,127.0.0.1:7333,127.0.0.1:7433").split(",")
CLUSTER = Path(__file__).parents[3] / "scripts" / "cluster"

# Seconds that one test may take, unless it says otherwise (its attribute `seconds`).
TEST_TIME = 60


def pytest_collection_modifyitems(items):
    """Bounds every test from within its event loop, so that its workers still shut down in order."""
    for item in items:
        item.obj = bounded(item.obj)


def bounded(test):
    @functools.wraps(test)
    async def within_time(*args, **kwargs):
        async with asyncio.timeout(getattr(test, "seconds", TEST_TIME)):
            await test(*args, **kwargs)

    assert inspect.iscoroutinefunction(test), test
    return within_time


@pytest.fixture
async def client():
    return await Client.connect(NODES[1])


@pytest.fixture
async def worker_client():
    return await Client.connect(NODES[2])


@pytest.fixture
async def clients():
    """One client per node."""
    return [await Client.connect(node) for node in NODES]


@pytest.fixture
def name():
    """A prefix that no other test uses, for workflow ids and task queues."""
    return uuid.uuid4().hex[:12]


def make_worker(client, queue, **options):
    return Worker(client, task_queue=queue, workflows=workflows.ALL, activities=activities.ALL, **options)


@pytest.fixture
async def worker(worker_client, name):
    """A worker on node 3; its task queue is the test's name."""
    async with make_worker(worker_client, name) as worker:
        yield worker


def cluster(*command):
    """Runs scripts/cluster, which knows from the environment which cluster is meant."""
    subprocess.run([CLUSTER, *command], check=True, timeout=60)


async def until(condition, seconds=20):
    """Waits until an async condition holds."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)
