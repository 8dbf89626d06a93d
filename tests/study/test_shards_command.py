"""Shares of a study in processes of their own: commands, kills, Slurm, directories put together."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shrinkproof import cli
from shrinkproof.results import Results
from shrinkproof.store import Store
from shrinkproof.study import Study
from shrinkproof.study.work.parts import parts_of

from ..study_builder import comparable, write_study
from .test_running import study_of
from .test_saliency_study import TEXT as EXPLAINED
from .test_saliency_study import write
from .test_shards import without_cells
from .test_snapshots import TEXT as SNAPSHOTS

SCRIPT = Path(__file__).resolve().parents[2] / "studies" / "slurm.sh"

SBATCH = """
# Runs what it is given at once, the tasks of an array beside each other.
echo "$*" >> "$SUBMITTED"
tasks=""
while [[ $1 == --* ]]; do
    [[ $1 == --array=1-* ]] && tasks=$(seq "${1#--array=1-}")
    shift
done
export SLURM_CPUS_PER_TASK=1
number=$(wc -l < "$SUBMITTED")
if [ -z "$tasks" ]; then
    bash "$@" > "$SUBMITTED.$number" 2>&1
else
    for SLURM_ARRAY_TASK_ID in $tasks; do
        export SLURM_ARRAY_TASK_ID
        bash "$@" > "$SUBMITTED.$number.$SLURM_ARRAY_TASK_ID" 2>&1 &
    done
    wait
fi
echo "$((100 + number));cluster"
"""

SRUN = """
[ "$1" = --cpus-per-task=1 ] || exit 3
shift
exec "$@"
"""


def call(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, list[str], str]:
    capfd.readouterr()
    code = cli.run(["run", *map(str, arguments), "--engine", "inline"])
    found = capfd.readouterr()
    return code, found.out.splitlines(), found.err


def study_file_of(run: Path) -> Path:
    return run.parent / "study" / "study.yaml"


@pytest.mark.parametrize("words", [["--shard", "1/2"], ["--stage", "prepare", "--shard", "3/2"]])
def test_wrong_shares_are_wrong_usage(
    capfd: pytest.CaptureFixture[str], study_file: Path, tmp_path: Path, words: list[str]
) -> None:
    code, out, error = call(capfd, study_file, "--out", tmp_path / "run", *words)
    assert (code, out) == (2, [])
    assert error.startswith("--shard: must ")


def test_each_share_says_what_it_did_and_what_comes_next(
    capfd: pytest.CaptureFixture[str], run_copy: Path, finished_run: Path
) -> None:
    study = study_file_of(finished_run)
    without_cells(run_copy)
    command = f"shrinkproof run {study} --out {run_copy}"
    code, out, _ = call(capfd, study, "--out", run_copy, "--stage", "prepare", "--shard", "2/2")
    assert (code, out) == (
        0,
        [
            "prepare 2/2: 2 of 2 candidates prepared",
            "prepare: 5 of 5 candidates prepared",
            f"next: {command} --stage measure --shard 2/2 (and each of the others)",
        ],
    )
    code, out, error = call(capfd, study, "--out", run_copy, "--stage", "measure", "--shard", "2/2")
    assert (code, out) == (
        0,
        [
            "measure 2/2: 20 of 20 cells measured",
            "measure: 20 of 50 cells measured, 30 missing, in shards 1 of 2",
            f"next, unless it is at work: {command} --stage measure --shard 1/2",
        ],
    )
    assert error.startswith("measure 2/2: 4 to do\n")
    code, out, _ = call(capfd, study, "--out", run_copy, "--stage", "measure")
    assert (code, out) == (0, ["measure: 50 of 50 cells measured", f"next: {command}"])


def test_more_shares_than_work_leave_some_without_any(
    capfd: pytest.CaptureFixture[str], run_copy: Path, finished_run: Path
) -> None:
    arguments = [study_file_of(finished_run), "--out", run_copy, "--stage", "prepare"]
    code, out, _ = call(capfd, *arguments, "--shard", "7/7")
    assert code == 0
    assert out[:2] == ["prepare 7/7: nothing to do", "prepare: 5 of 5 candidates prepared"]


def start(study: Path, run: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "shrinkproof", "run", str(study), "--out", str(run), *words]
    return subprocess.Popen(
        [*command, "--engine", "inline"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


@pytest.mark.slow
def test_a_killed_share_is_repeated_beside_another_one(run_copy: Path, finished_run: Path) -> None:
    without_cells(run_copy)
    study = study_file_of(finished_run)
    first = start(study, run_copy, "--stage", "measure", "--shard", "1/2")
    second = start(study, run_copy, "--stage", "measure", "--shard", "2/2")
    deadline = time.monotonic() + 120
    while not list(run_copy.glob("cells/*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.01)
    first.kill()
    first.communicate()
    kept = {p.name: p.stat().st_mtime_ns for p in run_copy.glob("cells/*.jsonl")}
    assert kept
    study_of(run_copy).run(run_copy, stage="measure", share="1/2")
    _, error = second.communicate(timeout=120)
    assert second.returncode == 0, error.decode()
    assert (
        kept.items()
        <= {p.name: p.stat().st_mtime_ns for p in run_copy.glob("cells/*.jsonl")}.items()
    )
    study_of(run_copy).run(run_copy)
    assert comparable(run_copy) == comparable(finished_run)


@pytest.mark.slow
def test_ctrl_c_of_a_share_in_one_process_keeps_what_is_finished(
    run_copy: Path, finished_run: Path
) -> None:
    without_cells(run_copy)
    process = start(study_file_of(finished_run), run_copy, "--stage", "measure", "--shard", "1/1")
    assert process.stderr is not None
    lines = [process.stderr.readline().decode()]
    while lines[-1] and not lines[-1].startswith("measure 1/1: 2/8"):
        lines.append(process.stderr.readline().decode())
    process.send_signal(signal.SIGINT)
    lines += process.stderr.read().decode().splitlines()
    process.stderr.close()
    assert process.wait(timeout=60) == 130
    assert lines[-1] == "interrupted; what is finished is kept, run the same command again"
    assert not any("Traceback" in line for line in lines)
    assert 0 < len(Store(run_copy).finished()) < 50
    study_of(run_copy).run(run_copy)
    assert comparable(run_copy) == comparable(finished_run)


def submit(tmp_path: Path, study: Path, run: Path, program: str) -> tuple[str, dict[str, str]]:
    """Submit two shares to a Slurm that runs them at once; return what is said, and the logs."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("shrinkproof", program)):
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    logs = tmp_path / "submitted"
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "SUBMITTED": str(logs),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", SCRIPT, "submit", study, run, "2", "--partition=short"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    told = {p.name.partition(".")[2]: p.read_text() for p in sorted(tmp_path.glob("submitted*"))}
    assert (done.returncode, done.stderr) == (0, ""), told
    return done.stdout, told


def test_slurm_gets_two_arrays_and_a_last_job(tmp_path: Path) -> None:
    text, logs = submit(tmp_path, Path("my study.yaml"), Path("/run"), "printf '%s|' \"$@\"")
    assert text == "prepare: job 101, measure: job 102, finish: job 103\n"
    calls = [line.partition(str(SCRIPT))[0].split() for line in logs.pop("").splitlines()]
    assert calls == [
        ["--parsable", "--array=1-2", "--partition=short"],
        ["--parsable", "--array=1-2", "--dependency=afterany:101", "--partition=short"],
        ["--parsable", "--dependency=afterany:102", "--partition=short"],
    ]
    every = "run|my study.yaml|--out|/run|"
    assert logs == {
        "1.1": f"{every}--stage|prepare|--shard|1/2|--workers|1|",
        "1.2": f"{every}--stage|prepare|--shard|2/2|--workers|1|",
        "2.1": f"{every}--stage|measure|--shard|1/2|--workers|1|",
        "2.2": f"{every}--stage|measure|--shard|2/2|--workers|1|",
        "3": f"{every}--workers|1|",
    }


@pytest.mark.slow
@pytest.mark.long
def test_slurm_arrays_give_the_records_of_one_run(finished_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    program = f'exec "{sys.executable}" -m shrinkproof "$@"'
    _, logs = submit(tmp_path, study_file_of(finished_run), run, program)
    for k, count in ((1, 3), (2, 2)):
        assert f"prepare {k}/2: {count} of {count} candidates prepared" in logs[f"1.{k}"]
    assert "measure 2/2: 20 of 20 cells measured" in logs["2.2"]
    assert "latency: 5 to do" in logs["3"]
    assert "prepare" not in logs["3"]
    assert comparable(run) == comparable(finished_run), logs


def test_the_slurm_script_is_valid_and_explains_itself() -> None:
    assert subprocess.run(["bash", "-n", SCRIPT], check=False).returncode == 0
    done = subprocess.run(["bash", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "bash studies/slurm.sh submit STUDY DIR SHARDS" in done.stdout
    assert "#!" not in done.stdout


@pytest.mark.slow
def test_directories_of_shares_put_together_are_one_run(
    run_copy: Path, finished_run: Path, tmp_path: Path
) -> None:
    without_cells(run_copy)
    for k in (1, 2):
        apart = shutil.copytree(run_copy, tmp_path / f"machine{k}")
        study_of(apart).run(apart, stage="measure", share=f"{k}/2")
    for k in (1, 2):
        shutil.copytree(tmp_path / f"machine{k}", run_copy, dirs_exist_ok=True)
    study_of(run_copy).run(run_copy)
    assert comparable(run_copy) == comparable(finished_run)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.long)])
def test_parts_of_passes_in_shares_give_the_records_of_one_run(
    run_copy: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    without_cells(run_copy)
    small = functools.partial(parts_of, pixels=16 * 16 * 40)
    monkeypatch.setattr("shrinkproof.study.plan.parts_of", small)
    study = study_of(run_copy)
    assert [len(study.plan().parts[name]) for name in ("select", "report")] == [2, 2]
    for k in range(1, count + 1):
        mine, whole, _ = study.run_stage(run_copy, "measure", f"{k}/{count}").standing()
        assert (mine.missing, mine.failed) == (0, 0)
        # With as many shares as parts each share has one part of every cell: nothing is whole yet.
        assert whole.done == 0 or k > 1
    assert whole.missing == 0
    study.run(run_copy)
    assert comparable(run_copy) == comparable(finished_run)


@pytest.mark.slow
def test_heat_maps_in_shares_are_those_of_one_run(tmp_path: Path) -> None:
    study = Study.load(write(tmp_path / "study", EXPLAINED))
    whole = study.run(tmp_path / "whole").store.path
    run = shutil.copytree(whole, tmp_path / "run")
    without_cells(run, ("scores", "saliency", "size"))
    for k in (3, 1, 2):
        study.run(run, stage="measure", share=f"{k}/3")
    study.run(run)
    assert comparable(run) == comparable(whole)
    for file in (whole / "saliency").iterdir():
        assert (run / "saliency" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("text", [SNAPSHOTS, EXPLAINED], ids=["snapshots", "explained"])
@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_whole_studies_in_shares_give_the_records_of_one_run(
    tmp_path: Path, text: str, count: int
) -> None:
    make = write if text is EXPLAINED else write_study
    study = Study.load(make(tmp_path / "study", text))
    whole = study.run(tmp_path / "whole").store.path
    run = tmp_path / "run"
    for stage in ("prepare", "measure"):
        for k in range(1, count + 1):
            study.run(run, stage=stage, share=f"{k}/{count}")
    study.run(run)
    assert Results.load(run).progress["missing"] == 0
    assert comparable(run) == comparable(whole)
    for candidate in Results.load(whole).candidates:
        name = f"candidates/{candidate.key}/weights.safetensors"
        assert (run / name).read_bytes() == (whole / name).read_bytes()
