"""The Ray cluster that this process is connected to, and what it has room for."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from shrinkproof.errors import EngineError, MissingExtraError
from shrinkproof.records import Json

COMMAND: Final = 'pip install "shrinkproof[ray]"'

_LOCAL: Final = "local"
_STORE_BYTES: Final = 100 * 2**20
"""Shared memory of a cluster of our own: only results travel, and they are small."""

_QUIET: Final = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what Ray will do anyway; otherwise it warns
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # dead workers and nodes come back to us as exceptions
    "RAY_NUM_REDIS_GET_RETRIES": "2",  # of 41 s each, where the address `auto` is out of date
    "RAY_USAGE_STATS_ENABLED": "0",
}
_KNOCK: Final = 5.0
"""Seconds that the head of a cluster has for an answer."""

_LOOK: Final = 2.0
"""Seconds between two looks at the cluster."""

_SILENCE: Final = 20.0
"""Seconds after which a silent head is gone. Ray ends this process when a minute has passed."""

_EMPTY: Final = 60.0
"""Seconds that a cluster may be without room for a single piece of work: nodes may be coming."""


@dataclass
class Cluster:
    """The connection of this process, which all engines in it share.

    Attributes:
        holders: how many need it now.
        is_ours: whether the connection was made here; somebody else's is left as it is.
        is_local: whether the cluster was started here, and is stopped here; it does not grow.
    """

    holders: int = 0
    is_ours: bool = False
    is_local: bool = False

    def hold(self, address: str | None, cores: int) -> None:
        """Connect where nobody has, and stay connected until `release`.

        Args:
            address: of the cluster; else RAY_ADDRESS, else a new cluster of this machine.
            cores: what a new cluster offers.

        Raises:
            MissingExtraError: Ray is not installed.
            EngineError: there is no cluster at the address, or it has other versions.
        """
        ray = load_ray()
        if not self.holders and not ray.is_initialized():
            target = address or os.environ.get("RAY_ADDRESS") or _LOCAL
            _connect(ray, target, cores)
            self.is_ours, self.is_local = True, target == _LOCAL
        self.holders += 1

    def release(self) -> None:
        """Disconnect where nobody else needs it; a cluster that was started here is stopped."""
        self.holders -= 1
        if not self.holders and self.is_ours:
            self.is_ours = self.is_local = False
            load_ray().shutdown()


CLUSTER: Final = Cluster()
"""Ray itself has one connection per process."""


def load_ray() -> Any:
    """Return the package.

    Raises:
        MissingExtraError: it is absent or broken.
    """
    try:
        with _quiet():
            import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise MissingExtraError("ray is not installed.", command=COMMAND) from None
    # A broken package fails in any way; the cause is kept.
    except Exception as error:
        raise MissingExtraError(
            f"ray is installed but does not import: {type(error).__name__}: {error}.",
            command=f"{COMMAND} --force-reinstall",
        ) from error
    return ray


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Give Ray the settings of its that only the environment can give; the user's come first."""
    added = {name: value for name, value in _QUIET.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _connect(ray: Any, target: str, cores: int) -> None:
    settings: Json = {"address": target, "log_to_driver": False, "logging_level": "ERROR"}
    if target == _LOCAL:
        settings |= {"num_cpus": cores, "include_dashboard": False}
        settings |= {"object_store_memory": _STORE_BYTES}
    elif "://" in target:
        raise EngineError(
            f"ray: the address must be that of the cluster itself, HOST:PORT, got {target}; start "
            "the study on a node of the cluster, because it writes into the shared run directory"
        )
    elif target != "auto" and not _answers(target):
        raise EngineError(
            f"ray: a cluster must answer at {target}, got no connection within {_KNOCK:g} s; "
            "start its head with: ray start --head --port=6379"
        )
    try:
        with _quiet():
            ray.init(**settings)
    # Ray tells what is wrong with an address or its versions by many classes.
    except Exception as error:
        advice = (
            "the cluster asks for a token: export RAY_AUTH_MODE=token, and see ray get-auth-token"
            if any("InvalidAuthToken" in str(cause) for cause in _causes(error))
            else "this machine must be a node itself: ray start --address=HEAD:6379"
        )
        raise EngineError(
            f"ray: a cluster must be there to connect to, got {type(error).__name__} for the "
            f"address {target}: {error}; {advice}"
        ) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK).close()
    except (OSError, ValueError):
        return False
    return True


def room_of(nodes: Iterable[Mapping[str, Any]], cpus: int, gpus: float) -> list[int]:
    """Return how many pieces of work each living node can do at the same time.

    Args:
        nodes: what ``ray.nodes()`` returned.
        cpus: cores of a piece.
        gpus: GPUs of a piece; a part of one is never spread over two.
    """
    found = []
    for node in nodes:
        if not node["Alive"]:
            continue
        resources = node["Resources"]
        room = int(resources.get("CPU", 0)) // cpus
        if gpus:
            each = int(resources.get("GPU", 0))
            fitting = each * math.floor(1 / gpus + 1e-9) if gpus < 1 else int(each // gpus)
            room = min(room, fitting)
        found.append(room)
    return found


@dataclass
class Watch:
    """Looks now and then whether the cluster lives, and what it has room for.

    Attributes:
        cpus: cores of a piece of work.
        gpus: GPUs of a piece of work.
    """

    cpus: int
    gpus: float
    _room: list[int] = field(default_factory=list)
    _looked: float = -math.inf
    _heard: float = 0.0
    _fitted: float = 0.0

    def __post_init__(self) -> None:
        self._heard = self._fitted = time.monotonic()

    def room(self) -> list[int]:
        """Return how many pieces each living node can do at once, as of a moment ago.

        Raises:
            EngineError: the cluster is gone, or no node of it can do a single piece.
        """
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return self._room
        self._looked = now
        ray = load_ray()
        if not _answers(ray.get_runtime_context().gcs_address):
            # Asking Ray itself would end this process.
            if now - self._heard > _SILENCE:
                raise EngineError(
                    f"ray: the head of the cluster must answer, got nothing for {_SILENCE:g} s; "
                    "what is finished is kept, start the cluster and run the same command again"
                )
            return self._room
        self._heard = now
        nodes = ray.nodes()
        self._room = room_of(nodes, self.cpus, self.gpus)
        if any(self._room):
            self._fitted = now
        elif CLUSTER.is_local or now - self._fitted > _EMPTY:
            raise EngineError(self._too_small(nodes))
        return self._room

    def _too_small(self, nodes: Iterable[Mapping[str, Any]]) -> str:
        offers = [
            f"{node['Resources'].get('CPU', 0):g} with {node['Resources'].get('GPU', 0):g}"
            for node in nodes
            if node["Alive"]
        ]
        return (
            f"ray: a node must have {self.cpus} CPUs with {self.gpus:g} GPUs for a piece of work, "
            f"got nodes of {', '.join(offers) or 'no kind'}; what is finished is kept, add a node "
            "and run the same command again"
        )
