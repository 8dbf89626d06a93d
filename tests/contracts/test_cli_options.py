"""The command line as users have learned it: changing this table is a decision, not an accident."""

from __future__ import annotations

from typing import Any, Final

import pytest
from typer.main import get_command

from shrinkproof.cli.application import app

COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "certify": ("DIR", "--engine", "--json", "--ledger"),
    "check": ("STUDY", "--load", "--root", "--scale"),
    "compare": ("A", "B", "DIR", "--csv", "--json", "--with"),
    "compress": (
        "MODEL", "STEP", "--calibrate", "--device", "--json", "--out/-o", "--root", "--seed",
        "--select", "--set", "--train",
    ),
    "corrupt": (
        "DATA", "--corruption", "--frost-dir", "--out/-o", "--preset", "--root", "--seed",
        "--severity", "--workers",
    ),
    "demo": ("DIR", "--task"),
    "doctor": (),
    "export": ("CANDIDATE", "DIR", "--images", "--json", "--out/-o", "--root"),
    "explain": ("CANDIDATE", "DIR", "--images", "--json", "--root", "--rule"),
    "gallery": ("IMAGE", "--cell", "--frost-dir", "--out/-o", "--preset", "--seed"),
    "gate": (
        "CANDIDATE", "DIR", "--against", "--baseline", "--json", "--junit", "--ledger", "--looks",
        "--rule", "--sure",
    ),
    "import predictions": (
        "FILE...", "--candidate", "--condition", "--device", "--network", "--of",
        "--probabilities", "--run", "--split",
    ),
    "import results": (
        "FILE...", "--baseline", "--dataset", "--mapping", "--out/-o", "--rounded", "--scale",
    ),
    "init": ("FILE", "--force"),
    "kit": ("DIR", "--condition", "--limit", "--out/-o", "--split"),
    "list": ("KIND", "--json"),
    "pareto": ("DIR", "--csv", "--json", "--maximize", "--minimize"),
    "plan": (
        "STUDY", "--json", "--limit", "--no-probe", "--out", "--root", "--scale", "--workers",
    ),
    "report": ("DIR", "--out/-o"),
    "results": ("DIR", "--csv", "--json", "--metric", "--tidy"),
    "run": (
        "STUDY", "--engine", "--limit", "--no-retry", "--only", "--out", "--root", "--scale",
        "--shard", "--stage", "--workers",
    ),
    "schema": (),
    "score": ("DIR", "--engine", "--metric"),
    "sensitivity": (
        "MODEL", "STEP", "--calibrate", "--images", "--json", "--root", "--seed", "--set",
    ),
    "status": ("DIR", "--csv", "--json"),
    "verdict": ("DIR...", "--json", "--markdown", "--paper"),
}  # fmt: skip

ENVIRONMENT: Final = frozenset(
    {
        "SHRINKPROOF_CERTIFY_ENGINE",
        "SHRINKPROOF_CERTIFY_JSON",
        "SHRINKPROOF_CERTIFY_LEDGER",
        "SHRINKPROOF_CHECK_LOAD",
        "SHRINKPROOF_CHECK_ROOT",
        "SHRINKPROOF_CHECK_SCALE",
        "SHRINKPROOF_COMPARE_CSV",
        "SHRINKPROOF_COMPARE_JSON",
        "SHRINKPROOF_COMPARE_OTHER",
        "SHRINKPROOF_COMPRESS_CALIBRATE",
        "SHRINKPROOF_COMPRESS_DEVICE",
        "SHRINKPROOF_COMPRESS_JSON",
        "SHRINKPROOF_COMPRESS_OUT",
        "SHRINKPROOF_COMPRESS_ROOT",
        "SHRINKPROOF_COMPRESS_SEED",
        "SHRINKPROOF_COMPRESS_SELECT",
        "SHRINKPROOF_COMPRESS_SET",
        "SHRINKPROOF_COMPRESS_TRAIN",
        "SHRINKPROOF_CORRUPT_CORRUPTION",
        "SHRINKPROOF_CORRUPT_FROST_DIR",
        "SHRINKPROOF_CORRUPT_OUT",
        "SHRINKPROOF_CORRUPT_PRESET",
        "SHRINKPROOF_CORRUPT_ROOT",
        "SHRINKPROOF_CORRUPT_SEED",
        "SHRINKPROOF_CORRUPT_SEVERITY",
        "SHRINKPROOF_CORRUPT_WORKERS",
        "SHRINKPROOF_EXPORT_IMAGES",
        "SHRINKPROOF_EXPORT_JSON",
        "SHRINKPROOF_EXPORT_OUT",
        "SHRINKPROOF_EXPORT_ROOT",
        "SHRINKPROOF_DEMO_TASK",
        "SHRINKPROOF_EXPLAIN_IMAGES",
        "SHRINKPROOF_EXPLAIN_JSON",
        "SHRINKPROOF_EXPLAIN_ROOT",
        "SHRINKPROOF_EXPLAIN_RULE",
        "SHRINKPROOF_GALLERY_CELL",
        "SHRINKPROOF_GALLERY_FROST_DIR",
        "SHRINKPROOF_GALLERY_OUT",
        "SHRINKPROOF_GALLERY_PRESET",
        "SHRINKPROOF_GALLERY_SEED",
        "SHRINKPROOF_GATE_AGAINST",
        "SHRINKPROOF_GATE_BASELINE",
        "SHRINKPROOF_GATE_JSON",
        "SHRINKPROOF_GATE_JUNIT",
        "SHRINKPROOF_GATE_LEDGER",
        "SHRINKPROOF_GATE_LOOKS",
        "SHRINKPROOF_GATE_RULE",
        "SHRINKPROOF_GATE_SURE",
        "SHRINKPROOF_IMPORT_PREDICTIONS_CANDIDATE",
        "SHRINKPROOF_IMPORT_PREDICTIONS_CONDITION",
        "SHRINKPROOF_IMPORT_PREDICTIONS_DEVICE",
        "SHRINKPROOF_IMPORT_PREDICTIONS_NETWORK",
        "SHRINKPROOF_IMPORT_PREDICTIONS_OF",
        "SHRINKPROOF_IMPORT_PREDICTIONS_PROBABILITIES",
        "SHRINKPROOF_IMPORT_PREDICTIONS_RUN",
        "SHRINKPROOF_IMPORT_PREDICTIONS_SPLIT",
        "SHRINKPROOF_IMPORT_RESULTS_BASELINE",
        "SHRINKPROOF_IMPORT_RESULTS_DATASET",
        "SHRINKPROOF_IMPORT_RESULTS_MAPPING",
        "SHRINKPROOF_IMPORT_RESULTS_OUT",
        "SHRINKPROOF_IMPORT_RESULTS_ROUNDED",
        "SHRINKPROOF_IMPORT_RESULTS_SCALE",
        "SHRINKPROOF_INIT_FORCE",
        "SHRINKPROOF_KIT_CONDITION",
        "SHRINKPROOF_KIT_LIMIT",
        "SHRINKPROOF_KIT_OUT",
        "SHRINKPROOF_KIT_SPLIT",
        "SHRINKPROOF_LIST_JSON",
        "SHRINKPROOF_PARETO_CSV",
        "SHRINKPROOF_PARETO_JSON",
        "SHRINKPROOF_PARETO_MAXIMIZE",
        "SHRINKPROOF_PARETO_MINIMIZE",
        "SHRINKPROOF_PLAN_JSON",
        "SHRINKPROOF_PLAN_LIMIT",
        "SHRINKPROOF_PLAN_NO_PROBE",
        "SHRINKPROOF_PLAN_OUT",
        "SHRINKPROOF_PLAN_ROOT",
        "SHRINKPROOF_PLAN_SCALE",
        "SHRINKPROOF_PLAN_WORKERS",
        "SHRINKPROOF_REPORT_OUT",
        "SHRINKPROOF_RESULTS_CSV",
        "SHRINKPROOF_RESULTS_JSON",
        "SHRINKPROOF_RESULTS_METRIC",
        "SHRINKPROOF_RESULTS_TIDY",
        "SHRINKPROOF_RUN_ENGINE",
        "SHRINKPROOF_RUN_LIMIT",
        "SHRINKPROOF_RUN_NO_RETRY",
        "SHRINKPROOF_RUN_ONLY",
        "SHRINKPROOF_RUN_OUT",
        "SHRINKPROOF_RUN_ROOT",
        "SHRINKPROOF_RUN_SCALE",
        "SHRINKPROOF_RUN_SHARD",
        "SHRINKPROOF_RUN_STAGE",
        "SHRINKPROOF_RUN_WORKERS",
        "SHRINKPROOF_SCORE_ENGINE",
        "SHRINKPROOF_SCORE_METRIC",
        "SHRINKPROOF_SENSITIVITY_CALIBRATE",
        "SHRINKPROOF_SENSITIVITY_IMAGES",
        "SHRINKPROOF_SENSITIVITY_JSON",
        "SHRINKPROOF_SENSITIVITY_ROOT",
        "SHRINKPROOF_SENSITIVITY_SEED",
        "SHRINKPROOF_SENSITIVITY_SET",
        "SHRINKPROOF_STATUS_CSV",
        "SHRINKPROOF_STATUS_JSON",
        "SHRINKPROOF_VERDICT_JSON",
        "SHRINKPROOF_VERDICT_MARKDOWN",
        "SHRINKPROOF_VERDICT_PAPER",
    }
)

MOST: Final = 10
"""Options of one command; knobs belong to the study file."""


def commands() -> dict[str, Any]:
    """Return all commands; those of a group carry its name, ``import results``."""
    found = {}
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        members = getattr(command, "commands", None)
        if members is None:
            found[name] = command
        else:
            found.update({f"{name} {member}": inner for member, inner in members.items()})
    return found


def options(command: str) -> tuple[str, ...]:
    found = []
    for parameter in commands()[command].params:
        if parameter.param_type_name == "argument":
            found.append(parameter.metavar or parameter.name.upper())
        else:
            found.append("/".join(sorted(parameter.opts, reverse=True, key=len)))
    return tuple(sorted(found, key=lambda name: (name.startswith("-"), name)))


def test_the_commands_are_the_known_ones() -> None:
    assert sorted(commands()) == sorted(COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_options_are_the_known_ones(command: str) -> None:
    assert options(command) == COMMANDS[command]
    assert sum(name.startswith("-") for name in options(command)) <= MOST


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_is_explained(command: str) -> None:
    found = commands()[command]
    assert found.help
    assert found.help.rstrip().endswith(".")
    for parameter in found.params:
        assert parameter.help, f"{command} {parameter.name} has no help"
        assert parameter.help.endswith((".", "SHRINKPROOF_WEIGHTS.")), parameter.name


def test_every_option_has_its_environment_variable() -> None:
    """The name is what users write: no Python spelling shows in it."""
    found = {
        f"SHRINKPROOF_{command.replace(' ', '_')}_{parameter.name}".upper()
        for command, known in commands().items()
        for parameter in known.params
        if parameter.param_type_name == "option"
    }
    assert found == ENVIRONMENT
