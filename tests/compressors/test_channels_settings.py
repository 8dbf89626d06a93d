import json

import pydantic
import pytest

from shrinkproof.compressors.channels import ChannelPruning
from shrinkproof.compressors.channels.target import Target
from shrinkproof.compressors.finetune import FineTuning
from shrinkproof.compressors.recipe import recovery_of
from shrinkproof.protocols import Role
from shrinkproof.registry import fields_of
from shrinkproof.training.settings import Training


def test_a_step_without_training_has_no_control():
    assert recovery_of(ChannelPruning(ratio=0.5)) == ()
    step = ChannelPruning(ratio=0.5, iterations=3, finetune=Training(epochs=2))
    assert recovery_of(step) == (FineTuning(epochs=2),) * 3
    assert step.role is Role.COMPRESS


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "exactly one of ratio and target must be given, got none"),
        ({"ratio": 0.5, "target": Target(macs=0.5)}, "got both"),
        ({"ratio": 0.0}, "greater than 0"),
        ({"ratio": 1.0}, "less than 1"),
        ({"ratio": 50.0}, "less than 1"),
        ({"ratio": 0.95}, r"at most 0\.9, got 0\.95"),
        ({"ratio": 0.5, "criterion": "bn_scales"}, "'bn_scales'; did you mean 'bn_scale'"),
        ({"ratio": 0.5, "include": ()}, "at least one pattern"),
        ({"ratio": 0.5, "round_to": 0}, "greater than or equal to 1"),
        ({"ratio": 0.5, "iterations": 0}, "greater than or equal to 1"),
        ({"ratio": 0.5, "groups": 3}, "groups must be given exactly where"),
        (
            {"ratio": 0.5, "iterations": "layers", "finetune": Training(epochs=1)},
            "groups must be given exactly where",
        ),
        ({"ratio": 0.5, "critereon": "l1"}, "[Uu]nexpected"),
    ],
)
def test_wrong_settings_are_refused(fields, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        ChannelPruning(**fields)


def test_settings_are_plain_json():
    step = ChannelPruning(
        target=Target(bytes="2MB"),
        include=["a*", "b"],
        criterion="fpgm",
        iterations="layers",
        groups=3,
        finetune=Training(epochs=1, augment=("crop",)),
    )
    text = json.dumps(fields_of(step))
    assert pydantic.TypeAdapter(ChannelPruning).validate_json(text) == step


def test_importing_the_step_does_not_import_torch():
    import subprocess
    import sys

    code = (
        "import sys; from shrinkproof.compressors.channels import ChannelPruning; "
        "ChannelPruning(ratio=0.5).recovery; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
