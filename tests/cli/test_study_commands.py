"""Commands on studies, and on shrinkproof itself: check, plan, run, init, list, schema, doctor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shrinkproof import __version__
from shrinkproof.errors import UsageError
from shrinkproof.study import Study

from ..study_builder import STUDY, rewrite_study
from .conftest import Call

COMMANDS = (
    "demo", "init", "doctor", "check", "plan", "run", "status", "results", "pareto", "report",
    "list", "schema",
)  # fmt: skip


@pytest.fixture
def finished_study(finished_run: Path) -> Path:
    """The study file of the finished run."""
    return finished_run.parent / "study" / "study.yaml"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_command(call: Call, flag: str) -> None:
    done = call(flag)
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.lines)) <= 80
    assert all(f"│ {command} " in done.out for command in COMMANDS)
    for group in ("Start", "Study", "Decide", "Deliver", "Tools"):
        assert f"─ {group} ─" in done.out


def test_no_command_prints_the_help(call: Call) -> None:
    assert call().code == 0
    assert call().out.strip() == call("--help").out.strip()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(call: Call, command: str) -> None:
    done = call(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"Usage: shrinkproof {command}" in done.out
    assert "…" not in done.out


def test_version(call: Call) -> None:
    done = call("--version")
    assert (done.code, done.out, done.err) == (0, f"shrinkproof {__version__}\n", "")


def test_a_version_in_the_environment_is_not_ours(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHRINKPROOF_VERSION", "1.2.3")
    assert call("schema").code == 0


# check and plan


def test_check_says_what_it_found(call: Call, study_file: Path) -> None:
    done = call("check", study_file)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{study_file}: ok, 1 model(s), 3 recipe(s), 4 condition(s)\n"


@pytest.mark.slow
def test_check_load_rehearses_every_recipe(call: Call, study_file: Path) -> None:
    rewrite_study(study_file, STUDY.replace("[0.5, 0.8]", "[0.5]"))
    done = call("check", study_file, "--load")
    assert done.code == 0
    assert "models.net: 4 classes, input (3, 16, 16)" in done.out
    for recipe in ("baseline", "prune0.5", "cluster8"):
        assert f"net/{recipe}: works" in done.out


def test_check_load_shortens_every_training() -> None:
    from shrinkproof.compressors import COMPRESSORS
    from shrinkproof.study.rehearsal import shortened

    long = {"epochs": 9, "schedule": "step", "milestones": [3, 6], "gamma": 0.2}
    for name, settings in {
        "finetune": long,
        "prune.weights": {"ratio": 0.5, "schedule": "gradual", "finetune": long},
        "prune.channels": {"ratio": 0.5, "iterations": 2, "finetune": long},
        "quantize.qat": {"finetune": long},
    }.items():
        short = shortened(COMPRESSORS.create(name, settings))
        assert getattr(short, "finetune", short).epochs == 1, name
    for name, settings in {"fold": {}, "prune.weights": {"ratio": 0.5}}.items():
        step = COMPRESSORS.create(name, settings)
        assert shortened(step) == step


def test_several_problems_are_all_printed(call: Call, study_file: Path) -> None:
    wrong = STUDY.replace("ratio: [0.5, 0.8]", "ratio: [30]").replace("cluster:", "clutser:")
    rewrite_study(study_file, wrong.replace("robustness.mean_error", "robustness.meen_error"))
    done = call("check", study_file)
    assert (done.code, done.out) == (2, "")
    problems = done.err.splitlines()
    assert len(problems) == 3
    assert all(line.startswith(f"{study_file}:") for line in problems)
    assert "did you mean 'cluster'" in done.err
    assert "robustness.mean_error" in done.err


@pytest.mark.parametrize("command", ["check", "plan", "run"])
def test_a_missing_study_file(call: Call, tmp_path: Path, command: str) -> None:
    done = call(command, tmp_path / "nothing.yaml")
    assert (done.code, done.out) == (2, "")
    assert "nothing.yaml: cannot be read" in done.err


def test_plan_shows_candidates_and_controls(call: Call, finished_study: Path) -> None:
    done = call("plan", finished_study, "--no-probe")
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.lines)) <= 80
    assert "5 candidates, 60 cells in 8 passes" in done.lines
    assert "select: 60 images of arrays:test.npz" in done.lines
    pruned = next(line for line in done.lines if line.startswith("net/prune0.5"))
    assert "net/control.finetune-" in pruned


def test_plan_as_json(call: Call, finished_study: Path) -> None:
    found = json.loads(call("plan", finished_study, "--json", "--no-probe").out)
    keys = ("candidates", "cells", "contamination", "notes", "splits", "version", "work")
    assert tuple(sorted(found)) == keys
    assert (len(found["candidates"]), len(found["cells"])) == (5, 60)
    assert found["splits"]["select"]["count"] == 60


def test_limit_is_planned_and_noted(call: Call, finished_study: Path) -> None:
    options = ("--limit", "20", "--json", "--no-probe")
    found = json.loads(call("plan", finished_study, *options).out)
    assert found["splits"]["select"]["count"] == 20
    assert any("20 of 60" in note for note in found["notes"])


# run


def test_run_does_what_is_missing(call: Call, finished_study: Path, half_run: Path) -> None:
    done = call("run", finished_study, "--out", half_run, "--engine", "inline")
    assert done.code == 0
    assert "prepare: 1 to do" in done.err
    assert "measure: " in done.err
    assert "to do" not in done.out
    assert f"report: {half_run / 'report.html'}" in done.lines
    assert "missing 0" in call("status", half_run).out
    again = call("run", finished_study, "--out", half_run, "--engine", "inline")
    assert (again.code, again.err) == (0, "")


def test_run_takes_options_from_the_environment(
    call: Call, finished_study: Path, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHRINKPROOF_RUN_OUT", str(run_copy))
    monkeypatch.setenv("SHRINKPROOF_RUN_ENGINE", "inline")
    monkeypatch.setenv("SHRINKPROOF_STATUS_JSON", "1")
    done = call("run", finished_study)
    assert done.code == 0
    assert f"report: {run_copy / 'report.html'}" in done.lines
    assert json.loads(call("status", run_copy).out)["missing"] == 0


def test_run_directory_is_named_after_the_study(
    call: Call, study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def stop(self: Study, out: Path, **_: object) -> None:
        seen.append(out)
        raise UsageError("stopped by the test")

    monkeypatch.setattr(Study, "run", stop)
    assert call("run", study_file).code == 2
    assert seen == [Path("runs/tiny")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--engine", "inlin"), "unknown engine 'inlin'; did you mean 'inline'?"),
        (("--engine", "inline", "--workers", "2"), "the inline engine has one worker, got 2"),
        (("--workers", "0"), "--workers"),
        (("--limit", "many"), "--limit"),
        (("--root", "cifar10"), "--root: must be NAME=PATH, got 'cifar10'"),
        (("--root", "=x"), "--root: must be NAME=PATH, got '=x'"),
        (("--root", "cifar10=/no/such"), "--root cifar10: /no/such does not exist"),
        (("--nonsense",), "No such option: --nonsense"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_options_of_run(
    call: Call, study_file: Path, options: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    done = call("run", study_file, "--out", tmp_path / "run", *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "run").exists()


def test_cifar10_is_found_through_option_or_environment(
    call: Call, study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite_study(study_file, STUDY.replace("train: arrays:train.npz", "train: cifar10:train"))
    for place in ("first", "second"):
        (tmp_path / place).mkdir()
    monkeypatch.setenv("SHRINKPROOF_CIFAR10", str(tmp_path / "first"))
    assert str(tmp_path / "first") in call("plan", study_file).err
    done = call("plan", study_file, "--root", f"cifar10={tmp_path / 'second'}")
    assert done.code == 2
    assert str(tmp_path / "second") in done.err
    assert str(tmp_path / "first") not in done.err


# init, list, schema, doctor


def test_init_writes_a_study_that_checks(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    done = call("init", file)
    assert (done.code, done.err) == (0, "")
    assert f"shrinkproof check {file}" in done.out
    # The file itself is right; what it names is not there yet, and check says how to give it.
    checked = call("check", file)
    assert checked.code == 2
    lines = checked.err.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "data.train",
        "data.calibrate",
        "data.split.from",
        "models.resnet20",
    ]
    assert "--root cifar10=PATH" in lines[0]
    assert "--root weights=FOLDER" in lines[3]


def test_check_misses_a_file_without_reading_any(call: Call, study_file: Path) -> None:
    (study_file.parent / "test.npz").write_bytes(b"no archive at all")
    assert call("check", study_file).code == 0
    (study_file.parent / "test.npz").unlink()
    done = call("check", study_file)
    assert done.code == 2
    assert "data.split.from" in done.err
    assert "test.npz: there is no such file" in done.err


def test_init_replaces_nothing_unless_told(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("precious")
    done = call("init", file)
    assert (done.code, file.read_text()) == (2, "precious")
    assert "--force" in done.err
    assert call("init", file, "--force").code == 0
    assert "precious" not in file.read_text()


def test_init_where_nothing_can_be_written(call: Call, tmp_path: Path) -> None:
    done = call("init", tmp_path / "missing" / "study.yaml")
    assert done.code == 2
    assert "cannot be written" in done.err


def test_list_shows_every_kind(call: Call) -> None:
    done = call("list")
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.lines)) <= 80
    assert "gradcam" in done.out
    for name in ("prune.weights", "gaussian_noise", "cifar10", "inline", "scores", "accuracy.top1"):
        assert name in done.out
    found = json.loads(call("list", "--json").out)
    assert sorted(found) == ["members", "version"]
    assert all(row["summary"] for row in found["members"])


def test_list_of_one_kind(call: Call) -> None:
    rows = json.loads(call("list", "metrics", "--json").out)["members"]
    assert {row["kind"] for row in rows} == {"metric"}
    done = call("list", "metrix")
    assert (done.code, done.out) == (2, "")
    assert "unknown kind 'metrix'; did you mean 'metrics'" in done.err


def test_schema_is_a_json_schema(call: Call) -> None:
    done = call("schema")
    assert (done.code, done.err) == (0, "")
    assert "$schema" in json.loads(done.out)


def test_doctor_ends_with_1_only_for_errors(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from shrinkproof import doctor

    found = [doctor.Finding("numpy", "ok", "2.4"), doctor.Finding("cpu", "warn", "slow", "wait")]
    monkeypatch.setattr(doctor, "report_doctor", lambda: found)
    done = call("doctor")
    assert (done.code, done.err) == (0, "")
    assert "-> wait" in done.out
    found.append(doctor.Finding("torch", "error", "does not import", "pip install torch"))
    done = call("doctor")
    assert done.code == 1
    assert "-> pip install torch" in done.out


def test_demo_is_described(call: Call) -> None:
    assert "no download" in call("demo", "--help").out
