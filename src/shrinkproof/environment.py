"""What this machine is, as far as it can change a number; torch is never imported."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from shrinkproof.records import Json, key_of

FLAGS: Final = (
    "amx_int8", "asimddp", "avx2", "avx512_vnni", "avx512f", "avx_vnni", "fma", "i8mm", "sve",
)  # fmt: skip
"""CPU instructions that decide how fast float32 and int8 networks run, in the spelling of Linux."""

THREAD_VARIABLES: Final = (
    "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "KMP_BLOCKTIME", "MKL_NUM_THREADS", "OMP_DYNAMIC",
    "OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS",
)  # fmt: skip

RUNTIMES: Final = (
    "numpy", "onnxruntime", "onnxruntime-gpu", "opencv-contrib-python", "opencv-python",
    "opencv-python-headless", "torch",
)  # fmt: skip
"""Packages that run networks or prepare their inputs: their versions can change a latency."""

_NOTED: Final = (
    "onnx", "onnxscript", "pillow", "polars", "pydantic", "safetensors", "scikit-learn", "scipy",
    "shrinkproof", "timm", "torchvision",
)  # fmt: skip
_MOMENTARY: Final = ("frequency",)
"""What changes from one moment to the next on the same machine, and is in no key."""

_SECONDS: Final = 10.0

_PROC: Final = Path("/proc")
_CGROUPS: Final = Path("/sys/fs/cgroup")


def capture(*, directory: Path | None = None) -> Json:
    """Return a description of this machine as plain JSON values.

    What cannot be read is None, never guessed. Sizes are bytes, frequencies hertz.

    Args:
        directory: also describe the git working tree at this place.
    """
    description: Json = {
        "os": {
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
        },
        "python": {
            "implementation": platform.python_implementation(),
            "version": platform.python_version(),
        },
        "cpu": describe_cpu(),
        "memory": _memory(),
        "gpus": _gpus(),
        "packages": _versions((*RUNTIMES, *_NOTED)),
        "threads": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
    }
    if directory is not None:
        description["git"] = _git(directory)
    return description


def environment_key(environment: Mapping[str, Any]) -> str:
    """Return the key of everything in a description that can change a latency, 16 hex digits.

    These are system and architecture, CPU (model, instructions, cores, quota, governor, highest
    and lowest frequency), GPUs with driver, versions of Python and the runtimes, and thread
    settings. Not in it: the momentary frequency, memory, kernel release, other packages, git state.

    Args:
        environment: what `capture` returned.
    """
    packages = environment["packages"]
    system = environment["os"]
    return key_of(
        "environment",
        {
            "system": [system["system"], system["machine"]],
            "python": environment["python"],
            "cpu": {k: v for k, v in environment["cpu"].items() if k not in _MOMENTARY},
            "gpus": [[gpu["name"], gpu["driver"]] for gpu in environment["gpus"]],
            "packages": {name: packages[name] for name in RUNTIMES if name in packages},
            "threads": environment["threads"],
        },
    )


def describe_cpu() -> Json:
    """Return model, cores, instructions and frequencies of the processor."""
    table = _cpu_table()
    words = table.get("flags") or table.get("Features")
    return {
        "model": table.get("model name") or _mac_model() or platform.processor() or None,
        "logical_cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "quota_cores": _quota(),
        "flags": None if words is None else sorted(set(FLAGS) & set(words.split())),
        "governor": _read(_scaling(0) / "scaling_governor"),
        "frequency": cpu_frequency(),
        "min_frequency": _hertz(_scaling(0) / "cpuinfo_min_freq"),
        "max_frequency": _hertz(_scaling(0) / "cpuinfo_max_freq"),
    }


def usable_cores() -> int:
    """Return how many logical cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def cpu_frequency() -> int | None:
    """Return the momentary frequency of the fastest core in hertz, None where nobody tells.

    The fastest one, because it is the one that works while the others wait.
    """
    told = [_hertz(_scaling(core) / "scaling_cur_freq") for core in range(os.cpu_count() or 1)]
    known = [hertz for hertz in told if hertz is not None]
    if not known:
        lines = (_read(Path("/proc/cpuinfo")) or "").splitlines()
        megahertz = (line.partition(":")[2] for line in lines if line.startswith("cpu MHz"))
        known = [round(1e6 * float(text)) for text in megahertz]
    return max(known, default=None)


def _scaling(core: int) -> Path:
    """Return the folder in which Linux tells how it sets the frequency of a core."""
    return Path(f"/sys/devices/system/cpu/cpu{core}/cpufreq")


def _hertz(path: Path) -> int | None:
    """Return the frequency in a file of Linux, which writes kilohertz."""
    text = _read(path)
    return int(text) * 1000 if text and text.isdigit() else None


def _cpu_table() -> dict[str, str]:
    """Return the first processor of ``/proc/cpuinfo``; empty on other systems."""
    first = (_read(Path("/proc/cpuinfo")) or "").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _mac_model() -> str | None:
    if sys.platform != "darwin":
        return None
    return _output(["sysctl", "-n", "machdep.cpu.brand_string"])


def available_memory() -> int | None:
    """Return the bytes that programs may still fill on this machine, None where nobody tells.

    The smallest of what Linux holds available, what the limits of the container's control groups
    leave (version 1 or 2, every level; files in their page cache count as free), and what the
    process may still map (``ulimit -v``). Of other systems half of the physical memory is taken
    as available.
    """
    told = [_unlimited_memory(), *_left_in_groups(), _left_of_address_space()]
    known = [amount for amount in told if amount is not None]
    return max(0, min(known)) if known else None


def _unlimited_memory() -> int | None:
    lines = (_read(_PROC / "meminfo") or "").splitlines()
    table = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    if "MemAvailable" in table:
        return int(table["MemAvailable"][0]) * 1024
    physical = _memory()
    return None if physical is None else physical // 2


def _left_in_groups() -> Iterator[int]:
    """Yield what each control group that has a limit leaves to its members."""
    for folder, limit, usage in _groups_of_memory():
        most, used = _read(folder / limit) or "", _read(folder / usage) or ""
        if most.isdigit() and used.isdigit():
            lines = (_read(folder / "memory.stat") or "").splitlines()
            counts = dict(line.split()[:2] for line in lines if len(line.split()) >= 2)
            cached = counts.get("total_inactive_file", counts.get("inactive_file", "0"))
            yield int(most) - int(used) + int(cached)


def _groups_of_memory() -> Iterator[tuple[Path, str, str]]:
    """Yield the folders of this process's control groups with the names of limit and usage."""
    rows = [r.split(":", 2) for r in (_read(_PROC / "self/cgroup") or "").splitlines()]
    for _, controllers, own in (row for row in rows if len(row) == 3):
        if controllers == "":
            top, names = _CGROUPS, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            top = _CGROUPS / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        # In a container the own path may lead nowhere: its group is then the top itself.
        folder = top / own.strip("/")
        yield from ((place, *names) for place in (folder, *folder.parents) if _is_in(place, top))


def _is_in(place: Path, top: Path) -> bool:
    return place == top or top in place.parents


def _left_of_address_space() -> int | None:
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    pages = (_read(_PROC / "self/statm") or "").split()
    if most == resource.RLIM_INFINITY or not pages:
        return None
    return most - int(pages[0]) * resource.getpagesize()


def _quota() -> float | None:
    """Return how many cores the container may use, None where it has no limit."""
    own = next(
        (
            line[3:]
            for line in (_read(_PROC / "self/cgroup") or "").splitlines()
            if line[:3] == "0::"
        ),
        "/",
    )
    root = _CGROUPS
    for folder in (root / own.strip("/"), root):
        words = (_read(folder / "cpu.max") or "").split()
        if len(words) == 2:
            return None if words[0] == "max" else int(words[0]) / int(words[1])
    quota, period = (_read(root / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return int(quota) / int(period) if quota and period and int(quota) > 0 else None


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return None


def _gpus() -> list[Json]:
    """Return the GPUs that the NVIDIA driver sees; none without its command."""
    text = _output(
        [
            "nvidia-smi",
            "--query-gpu=name,driver_version,memory.total",
            "--format=csv,noheader,nounits",
        ]
    )
    rows = [[part.strip() for part in line.split(",")] for line in (text or "").splitlines()]
    return [
        {
            "name": name,
            "driver": driver,
            "memory": int(memory) * 1024**2 if memory.isdigit() else None,
        }
        for name, driver, memory in (row for row in rows if len(row) == 3)
    ]


def _git(directory: Path) -> Json | None:
    place = ["git", "-C", str(directory)]
    commit = _output([*place, "rev-parse", "HEAD"])
    changes = _output([*place, "status", "--porcelain"])
    return None if commit is None else {"commit": commit, "is_clean": changes == ""}


def _versions(names: Iterable[str]) -> dict[str, str]:
    found = ((name, installed_version(name)) for name in sorted(names))
    return {name: version for name, version in found if version is not None}


def installed_version(name: str) -> str | None:
    """Return the version of an installed package, None where it is absent."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except OSError:
        return None


def _output(command: list[str]) -> str | None:
    """Return what a command prints, None where it is absent, fails or hangs."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, timeout=_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
