"""The script that trains the networks which the studies of the three papers begin with."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from shrinkproof.compressors import COMPRESSORS
from shrinkproof.models.loaded import Preprocess
from shrinkproof.spec import load_study_spec
from shrinkproof.spec.scales import with_scale

STUDIES = Path(__file__).resolve().parents[2] / "studies"
SCRIPT = STUDIES / "baselines.sh"


def arguments_of(name: str, folder: Path, **variables: str) -> list[str]:
    """Run the script with a stand-in for shrinkproof, which notes how it was called."""
    program = folder / "bin" / "shrinkproof"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@" > "$NOTED"\n'
        'while [ "$1" != --out ]; do shift; done\nmkdir -p "$2"\n'
        'echo weights > "$2/weights.safetensors"\n'
    )
    program.chmod(0o755)
    noted = folder / "noted"
    noted.unlink(missing_ok=True)
    path = f"{program.parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "NOTED": str(noted), **variables}
    subprocess.run(
        ["sh", SCRIPT, name, "/images", folder / "weights of mine", "--seed", "7"],
        env=environment,
        check=True,
        capture_output=True,
    )
    assert (folder / "weights of mine" / f"{name}.safetensors").read_text() == "weights\n"
    return noted.read_text().splitlines() if noted.exists() else []


def test_the_script_of_the_baselines_explains_itself() -> None:
    for given, told in (([], "NAME CIFAR DIR"), (["vgg17", "a", "b"], "got 'vgg17'")):
        done = subprocess.run(["sh", SCRIPT, *given], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert told in done.stdout + done.stderr
        assert "#!" not in done.stdout


@pytest.mark.parametrize(
    ("study", "scale"),
    [
        ("mitra2024", "full"),
        ("mantowsky2023", "full"),
        ("dasilva2025", "full"),
        ("dasilva2025", "full-cifar100"),
    ],
)
def test_every_baseline_can_be_trained_by_its_name(study: str, scale: str, tmp_path: Path) -> None:
    spec = load_study_spec(with_scale((STUDIES / f"{study}.yaml").read_text(), scale))
    for model in spec.models.values():
        name = model.rest.removesuffix(".safetensors")
        command, network, step, *options = arguments_of(name, tmp_path)
        assert (command, network.partition("/")[0]) == ("compress", model.arch)
        ((kind, settings),) = yaml.safe_load(step).items()
        training = COMPRESSORS.create(kind, settings)
        assert training.patience is None
        given = dict(zip(options[::2], options[1::2], strict=True))
        assert given["--train"] == spec.data.train.use == model.seen[0]
        assert given["--root"] == f"{model.seen[0].partition(':')[0]}=/images"
        assert given["--seed"] == "7"
        sets = [o.partition("=")[2] for o in options if o.startswith(("classes=", "preprocess="))]
        assert yaml.safe_load(sets[0]) == model.classes
        assert Preprocess(**yaml.safe_load(sets[1])) == model.preprocess


def test_a_baseline_that_is_there_is_not_trained_again(tmp_path: Path) -> None:
    assert arguments_of("vgg16_bn", tmp_path)
    assert arguments_of("vgg16_bn", tmp_path) == []


def test_vgg16_is_trained_as_long_as_is_asked(tmp_path: Path) -> None:
    for variables, epochs in (({}, 30), ({"EPOCHS": "16"}, 16)):
        _, _, step, *_ = arguments_of("vgg16_bn", tmp_path / str(epochs), **variables)
        assert yaml.safe_load(step)["finetune"]["epochs"] == epochs
