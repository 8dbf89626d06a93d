"""A Ray cluster of several nodes on this machine: items, deaths, lost nodes, a whole study."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shrinkproof.engines import ray as ray_engine
from shrinkproof.engines.ray import Ray
from shrinkproof.engines.ray_cluster import load_ray
from shrinkproof.engines.ray_worker import Premises
from shrinkproof.errors import EngineError
from shrinkproof.records import Failure
from shrinkproof.testing import check_engine

from ..study_builder import comparable

pytestmark = [
    pytest.mark.slow,
    # Ray leaves the sockets and processes of its nodes to the end of the interpreter.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

_STORE = 80 * 2**20
_LONG = 300.0
"""Seconds after which something will not come any more, also where much else runs beside."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that does no work itself; each test adds the nodes it wants."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    load_ray()
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": _STORE}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.add_node(num_cpus=2, object_store_memory=_STORE)
    yield made
    made.shutdown()


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the work, on the path that workers are told."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("engine_work")


@pytest.fixture
def engine(cluster: Any) -> Iterator[Ray]:
    """The engine, connected for the length of a test."""
    with Ray(address=cluster.address) as made:
        yield made


def wait_for(condition: Callable[[], object], seconds: float = _LONG) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def lose(cluster: Any, node: Any) -> None:
    """End a node as a machine ends: everything on it, without a word."""
    raylet = node.all_processes["raylet"][0].process.pid
    children = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
    cluster.remove_node(node, allow_graceful=False)
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGKILL)


def test_conformance(engine: Ray) -> None:
    check_engine(Ray, address=engine.address)
    assert engine.beside == 2
    assert dataclasses.replace(engine, workers=1).beside == 1


def test_dead_workers_cost_a_retry_and_then_the_item(
    engine: Ray, tmp_path: Path, work: Any
) -> None:
    items = [(str(tmp_path), number) for number in range(4)]
    assert sorted(dict(engine.map(work.die_once, items)).values()) == [0, 1, 2, 3]
    found: dict[int, Any] = dict(engine.map(work.die_always, [0, 1, 2]))
    failure = found.pop(1)
    assert found == {0: 0, 2: 2}
    assert isinstance(failure, Failure)
    assert failure.type == "WorkerDied"
    assert "The worker died unexpectedly" in failure.message


def test_workers_have_the_threads_of_the_driver(
    engine: Ray, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert dict(engine.map(work.threads_of, [0, 1])) == {0: "3", 1: "3"}
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert dict(engine.map(work.threads_of, [0, 1])) == {0: None, 1: None}


def test_a_node_that_joins_is_used_and_one_that_is_lost_costs_no_item(
    cluster: Any, engine: Ray, tmp_path: Path, work: Any
) -> None:
    items = [(str(tmp_path), number) for number in range(8)]
    found: dict[Any, Any] = {}

    def collect() -> None:
        found.update(dataclasses.replace(engine, retries=0).map(work.wait_for_leave, items))

    def begun() -> int:
        return len(list(tmp_path.glob("begun-*")))

    thread = threading.Thread(target=collect)
    thread.start()
    wait_for(lambda: begun() == 2)
    node = cluster.add_node(num_cpus=2, object_store_memory=_STORE)
    wait_for(lambda: begun() == 4)
    lose(cluster, node)
    (tmp_path / "leave").touch()
    thread.join(timeout=_LONG)
    assert found == {item: item[1] for item in items}
    assert begun() == 10, "two items were lost with their node, and begun again"


def test_work_ends_when_the_caller_stops_listening(engine: Ray, tmp_path: Path, work: Any) -> None:
    mark = tmp_path / "pid"
    results = engine.map(work.sleep_and_tell, [(str(tmp_path / "first"), 0.0), (str(mark), 300.0)])
    next(results)
    wait_for(mark.exists)
    wait_for(mark.read_text)
    results.close()  # type: ignore[attr-defined]  # a generator
    wait_for(lambda: not is_alive(int(mark.read_text())))


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_what_is_back_when_somebody_interrupts_is_not_lost(
    engine: Ray, tmp_path: Path, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = load_ray()
    real = ray.wait

    def wait(references: list[Any], **options: Any) -> Any:
        if "num_returns" in options:
            return real(references, **options)
        real(references, num_returns=2, timeout=_LONG)
        raise KeyboardInterrupt

    monkeypatch.setattr(ray, "wait", wait)
    items = [(str(tmp_path / str(number)), seconds) for number, seconds in enumerate((0, 0, 300))]
    found: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        found.extend(item for item, _ in engine.map(work.sleep_and_tell, items))
    assert sorted(found) == items[:2]


def test_unlike_workers_end_the_run(
    engine: Ray, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Premises.of_driver()
    other = dataclasses.replace(ours, versions=(("numpy", "0.1"),))
    monkeypatch.setattr(ray_engine.Premises, "of_driver", lambda: other)
    with pytest.raises(EngineError, match=r"packages must be .* numpy .* instead of 0\.1"):
        list(engine.map(work.threads_of, [0, 1]))


def test_a_study_survives_the_loss_of_a_node(
    cluster: Any, finished_run: Path, tmp_path: Path
) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=_STORE)
    study, run = finished_run.parent / "study" / "study.yaml", tmp_path / "run"
    command = [sys.executable, "-m", "shrinkproof", "run", str(study), "--out", str(run)]
    address = {"RAY_ADDRESS": cluster.address}
    with (
        run.with_suffix(".log").open("w") as log,
        started([*command, "--engine", "ray"], stdout=log, env=address) as process,
    ):
        wait_for(lambda: list(run.glob("cells/*.jsonl")) or process.poll() is not None)
        lose(cluster, node)
        code = process.wait(timeout=_LONG)
    assert code == 0, run.with_suffix(".log").read_text()
    assert comparable(run) == comparable(finished_run)
    assert not list(run.glob(".seen-*"))
    assert "raylet" not in run.with_suffix(".log").read_text()


@contextlib.contextmanager
def started(command: list[str], *, stdout: Any, env: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive the test."""
    process = subprocess.Popen(
        command, stdout=stdout, stderr=subprocess.STDOUT, env={**os.environ, **env}, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


PROGRAM = """
import os, time
from shrinkproof.engines.ray import Ray

def work(item):
    return os.getpid()

with Ray(workers=1) as engine:
    print(dict(engine.map(work, [0]))[0], flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_cluster_of_our_own_ends_with_its_driver(number: signal.Signals) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    program = [sys.executable, "-c", PROGRAM]
    with started(program, stdout=subprocess.PIPE, env={}) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        process.send_signal(number)
        process.wait(timeout=_LONG)
        process.stdout.close()
    wait_for(lambda: not is_alive(worker))
