"""What the Ray engine decides without a cluster: room, fitness of workers, errors."""

from __future__ import annotations

import dataclasses
import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydantic
import pytest

from shrinkproof.engines import ray_cluster, ray_worker
from shrinkproof.engines.holding import held
from shrinkproof.engines.inline import Inline
from shrinkproof.engines.ray import Ray
from shrinkproof.engines.ray_cluster import Cluster, Watch, load_ray, room_of
from shrinkproof.engines.ray_worker import Premises, Unfit, serve
from shrinkproof.errors import EngineError, MissingExtraError
from shrinkproof.records import Failure

HEAD = {"Alive": True, "Resources": {"CPU": 2.0, "memory": 1e9}}
LARGE = {"Alive": True, "Resources": {"CPU": 9.0, "GPU": 2.0}}
DEAD = {"Alive": False, "Resources": {}}


def double(item: int) -> int:
    return 2 * item


def parcel(work: Any, item: Any) -> bytes:
    return pickle.dumps((work, item))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Premises:
    """The premises of this process, which gets its own settings back afterwards."""
    pytest.importorskip("ray")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.chdir(Path.cwd())
    return Premises.of_driver()


@pytest.mark.parametrize(
    ("cpus", "gpus", "wanted"),
    [
        *((1, 0.0, [2, 9]), (2, 0.0, [1, 4]), (4, 0.0, [0, 2])),
        *((1, 1.0, [0, 2]), (1, 0.4, [0, 4]), (1, 0.25, [0, 8])),
        *((1, 2.0, [0, 1]), (4, 0.25, [0, 2]), (1, 0.1, [0, 9])),
    ],
)
def test_room_of_living_nodes(cpus: int, gpus: float, wanted: list[int]) -> None:
    assert room_of([HEAD, DEAD, LARGE], cpus, gpus) == wanted


def test_parts_of_more_than_one_gpu_are_refused() -> None:
    assert Ray(gpus=0.5).gpus == 0.5
    with pytest.raises(pydantic.ValidationError, match=r"at most 1 or a whole number, got 1\.5"):
        Ray(gpus=1.5)


def test_a_worker_returns_a_pickled_result_or_a_failure(here: Premises) -> None:
    found = serve(here, None, parcel(double, 4))
    assert isinstance(found, bytes)
    assert pickle.loads(found) == 8
    failure = serve(here, None, parcel(double, None))
    assert isinstance(failure, Failure)
    assert failure.type == "TypeError"
    unreadable = serve(here, None, b"no pickle")
    assert isinstance(unreadable, Failure)
    assert unreadable.type == "UnpicklingError"


def test_a_worker_takes_over_what_the_driver_has(here: Premises, tmp_path: Path) -> None:
    os.environ["OMP_NUM_THREADS"] = "7"
    os.environ["MKL_NUM_THREADS"] = "7"
    told = dataclasses.replace(
        here, threads=(("OMP_NUM_THREADS", "3"),), path=("/elsewhere",), folder=str(tmp_path)
    )
    serve(told, None, parcel(double, 1))
    serve(told, None, parcel(double, 1))
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in os.environ
    assert sys.path.count("/elsewhere") == 1
    assert Path.cwd() == tmp_path


def test_a_worker_with_other_packages_is_unfit(here: Premises) -> None:
    versions = dict(here.versions)
    ours, versions["torch"] = versions["torch"], "1.0"
    told = dataclasses.replace(here, machine="big", versions=tuple(versions.items()))
    found = serve(told, None, parcel(double, 1))
    assert isinstance(found, Unfit)
    assert f"driver on big, got torch {ours} instead of 1.0" in found.reason


def test_a_worker_without_the_run_directory_is_unfit(
    here: Premises, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_worker, "_PATIENCE", 0.0)
    (tmp_path / ".seen-1").touch()
    assert isinstance(serve(here, str(tmp_path / ".seen-1"), parcel(double, 1)), bytes)
    found = serve(here, str(tmp_path / ".seen-2"), parcel(double, 1))
    assert isinstance(found, Unfit)
    assert f"{tmp_path} must be the run directory that the driver" in found.reason


def test_without_ray_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "shrinkproof\[ray\]"'):
        list(Ray().map(double, [1]))
    assert list(Ray().map(double, [])) == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://127.0.0.1:10001", "must be that of the cluster itself, HOST:PORT"),
        ("127.0.0.1:1", "a cluster must answer at 127.0.0.1:1"),
        ("nowhere", "a cluster must answer at nowhere"),
    ],
)
def test_wrong_addresses_are_told_at_once(address: str, message: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(EngineError, match=message):
        list(Ray(address=address).map(double, [1]))
    assert not ray_cluster.CLUSTER.holders


class FakeRay:
    """A cluster of given nodes."""

    def __init__(self, *nodes: Any) -> None:
        self.answer = nodes

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(gcs_address="head:1")

    def nodes(self) -> Any:
        return self.answer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that the test moves, and a head that answers as the test wants."""
    made = SimpleNamespace(now=0.0, answers=True)
    monkeypatch.setattr(ray_cluster.time, "monotonic", lambda: made.now)
    monkeypatch.setattr(ray_cluster, "_answers", lambda address: made.answers)
    return made


def test_nodes_that_join_are_seen(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(HEAD)
    monkeypatch.setattr(ray_cluster, "load_ray", lambda: ray)
    watch = Watch(1, 0.0)
    assert watch.room() == [2]
    ray.answer = (HEAD, LARGE)
    assert watch.room() == [2]
    clock.now = 3.0
    assert watch.room() == [2, 9]


def test_a_silent_head_is_lost_after_a_while(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "load_ray", lambda: FakeRay(HEAD))
    watch = Watch(1, 0.0)
    watch.room()
    clock.now, clock.answers = 5.0, False
    assert watch.room() == [2]
    clock.now = 30.0
    with pytest.raises(EngineError, match="the head of the cluster must answer"):
        watch.room()


def test_a_cluster_without_room_gets_a_minute(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "load_ray", lambda: FakeRay(HEAD, DEAD))
    watch = Watch(4, 1.0)
    assert watch.room() == [0]
    clock.now = 61.0
    with pytest.raises(EngineError, match=r"4 CPUs with 1 GPUs .* got nodes of 2 with 0;"):
        watch.room()
    monkeypatch.setattr(ray_cluster, "CLUSTER", Cluster(is_local=True))
    with pytest.raises(EngineError, match="must have 4 CPUs"):
        Watch(4, 1.0).room()


def test_the_environment_is_as_before_after_ray_is_loaded() -> None:
    pytest.importorskip("ray")
    before = dict(os.environ)
    load_ray()
    assert dict(os.environ) == before


def test_an_engine_that_opens_nothing_is_held_as_it_is() -> None:
    with held(Inline()) as engine:
        assert engine == Inline()


def test_a_cluster_that_asks_for_a_token_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def init(self, **settings: Any) -> None:
            raise ConnectionError("Failed to connect") from RuntimeError("InvalidAuthToken")

    monkeypatch.setattr(ray_cluster, "_answers", lambda address: True)
    with pytest.raises(EngineError, match="export RAY_AUTH_MODE=token"):
        ray_cluster._connect(Refusing(), "head:1", 1)
