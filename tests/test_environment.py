from __future__ import annotations

import copy
import json
import subprocess
import sys
import time

import pytest

from shrinkproof import environment
from shrinkproof.environment import capture, environment_key

X86 = """processor\t: 0
model name\t: Some CPU 3000
flags\t\t: fpu sse avx2 avx512f avx512_vnni

processor\t: 1
model name\t: Other
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n"


@pytest.fixture
def files(monkeypatch):
    found: dict[str, str] = {}
    monkeypatch.setattr(environment, "_read", lambda path: found.get(path.as_posix()))
    return found


def test_description_is_plain_json_and_complete():
    description = capture()
    assert json.loads(json.dumps(description, allow_nan=False)) == description
    assert {"os", "python", "cpu", "memory", "gpus", "packages", "threads"} == set(description)
    assert description["packages"]["torch"]
    assert description["packages"]["shrinkproof"]
    assert description["cpu"]["usable_cores"] >= 1


def test_key_is_stable_and_fast():
    description = capture()
    start = time.perf_counter()
    key = environment_key(description)
    assert time.perf_counter() - start < 0.030
    assert key == environment_key(capture())
    assert len(key) == 16


def test_torch_is_not_imported():
    code = (
        "import sys; from shrinkproof.environment import capture, environment_key\n"
        "environment_key(capture()); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize(
    ("place", "value", "counts"),
    [
        (("cpu", "model"), "other", True),
        (("cpu", "flags"), ["avx2"], True),
        (("cpu", "usable_cores"), 99, True),
        (("cpu", "quota_cores"), 0.5, True),
        (("cpu", "governor"), "powersave", True),
        (("cpu", "frequency"), 1, False),
        (("packages", "onnxruntime"), "0.0", True),
        (("packages", "torch"), "0.0", True),
        (("packages", "polars"), "0.0", False),
        (("packages", "shrinkproof"), "0.0", False),
        (("threads", "OMP_NUM_THREADS"), "99", True),
        (("os", "machine"), "other", True),
        (("os", "release"), "other", False),
        (("memory",), 1, False),
        (("gpus",), [{"name": "G", "driver": "1", "memory": 2}], True),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else None,
)
def test_what_the_key_depends_on(place, value, counts):
    description = capture()
    changed = copy.deepcopy(description)
    inner = changed
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    assert (environment_key(changed) != environment_key(description)) is counts


def test_cpu_of_an_x86_linux(files):
    files["/proc/cpuinfo"] = X86
    files["/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"] = "powersave"
    files["/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"] = "4500000"
    cpu = environment.describe_cpu()
    assert cpu["model"] == "Some CPU 3000"
    assert cpu["flags"] == ["avx2", "avx512_vnni", "avx512f"]
    assert (cpu["governor"], cpu["max_frequency"]) == ("powersave", 4_500_000_000)


def test_frequency_of_the_kernel_goes_before_that_of_the_processor(files):
    assert environment.cpu_frequency() is None
    files["/proc/cpuinfo"] = "processor : 0\ncpu MHz : 2596.132\n\nprocessor : 1\ncpu MHz : 800.0"
    assert environment.cpu_frequency() == 2_596_132_000
    files["/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"] = "3100000"
    assert environment.cpu_frequency() == 3_100_000_000


def test_cpu_of_an_arm_linux(files):
    files["/proc/cpuinfo"] = ARM
    assert environment.describe_cpu()["flags"] == ["asimddp", "i8mm"]


def test_unreadable_is_none_not_empty(files):
    cpu = environment.describe_cpu()
    assert cpu["flags"] is None
    assert cpu["governor"] is None
    assert cpu["max_frequency"] is None
    assert cpu["quota_cores"] is None


@pytest.mark.parametrize(
    ("found", "cores"),
    [
        ({"/sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ({"/sys/fs/cgroup/cpu.max": "max 100000"}, None),
        (
            {
                "/proc/self/cgroup": "0::/jobs/7",
                "/sys/fs/cgroup/jobs/7/cpu.max": "50000 100000",
                "/sys/fs/cgroup/cpu.max": "max 100000",
            },
            0.5,
        ),
        (
            {
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            2.0,
        ),
        (
            {
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            None,
        ),
    ],
)
def test_quota_of_a_container(files, found, cores):
    files.update(found)
    assert environment._quota() == cores


def test_gpus_from_the_driver(monkeypatch):
    monkeypatch.setattr(
        environment, "_output", lambda command: "Big GPU, 550.1, 81559\nOld GPU, 550.1, [N/A]"
    )
    assert environment._gpus() == [
        {"name": "Big GPU", "driver": "550.1", "memory": 81559 * 1024**2},
        {"name": "Old GPU", "driver": "550.1", "memory": None},
    ]


def test_no_driver_no_gpus(monkeypatch):
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    assert environment._gpus() == []


def test_commands_that_fail_give_none():
    assert environment._output([sys.executable, "-c", "raise SystemExit(3)"]) is None
    assert environment._output([sys.executable, "-c", "print('x')"]) == "x"


def test_threads_are_noted(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert capture()["threads"]["OMP_NUM_THREADS"] == "3"


def test_git_state_is_optional(tmp_path, monkeypatch):
    assert "git" not in capture()
    answers = {"rev-parse": "abc", "status": " M file"}
    monkeypatch.setattr(environment, "_output", lambda command: answers.get(command[-2]))
    assert capture(directory=tmp_path)["git"] == {"commit": "abc", "is_clean": False}
    answers["status"] = ""
    assert capture(directory=tmp_path)["git"]["is_clean"] is True
    monkeypatch.setattr(environment, "_output", lambda command: None)
    assert capture(directory=tmp_path)["git"] is None


MEMINFO = "MemTotal:  16000 kB\nMemFree:  1000 kB\nMemAvailable:  8000 kB\n"
UNLIMITED = "9223372036854771712"


@pytest.mark.parametrize(
    ("found", "kilobytes"),
    [
        ({}, 8000),
        (
            {
                "/proc/self/cgroup": "0::/jobs/7",
                "/sys/fs/cgroup/jobs/7/memory.max": str(3000 * 1024),
                "/sys/fs/cgroup/jobs/7/memory.current": str(2000 * 1024),
                "/sys/fs/cgroup/jobs/7/memory.stat": f"anon 5\ninactive_file {500 * 1024}",
            },
            1500,
        ),
        (
            {
                "/proc/self/cgroup": "0::/jobs/7",
                "/sys/fs/cgroup/jobs/7/memory.max": "max",
                "/sys/fs/cgroup/jobs/7/memory.current": "1",
                "/sys/fs/cgroup/jobs/memory.max": str(4000 * 1024),
                "/sys/fs/cgroup/jobs/memory.current": str(1000 * 1024),
            },
            3000,
        ),
        (
            {
                "/proc/self/cgroup": "0::/",
                "/sys/fs/cgroup/memory.max": str(1000 * 1024),
                "/sys/fs/cgroup/memory.current": str(2000 * 1024),
            },
            0,
        ),
        (
            {
                "/proc/self/cgroup": "4:cpu,memory:/docker/1\n0::/",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": str(6000 * 1024),
                "/sys/fs/cgroup/memory/memory.usage_in_bytes": str(2000 * 1024),
                "/sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {1000 * 1024}",
            },
            5000,
        ),
        (
            {
                "/proc/self/cgroup": "4:memory:/",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED,
                "/sys/fs/cgroup/memory/memory.usage_in_bytes": "1000",
            },
            8000,
        ),
    ],
    ids=["machine", "v2", "parent", "over", "v1", "no limit"],
)
def test_available_memory_is_what_the_tightest_limit_leaves(files, found, kilobytes):
    files.update({"/proc/meminfo": MEMINFO, **found})
    assert environment.available_memory() == kilobytes * 1024


def test_half_of_the_memory_counts_as_available_where_nobody_tells(files):
    assert environment.available_memory() == environment._memory() // 2


def test_a_limit_of_the_process_counts(files, monkeypatch):
    import resource

    files.update({"/proc/meminfo": MEMINFO, "/proc/self/statm": "100 50 10"})
    limit = 100 * resource.getpagesize() + 12345
    monkeypatch.setattr(resource, "getrlimit", lambda what: (limit, limit))
    assert environment.available_memory() == 12345


def test_this_machine_has_memory_left():
    left = environment.available_memory()
    assert left is not None
    assert 0 < left <= environment._memory()
