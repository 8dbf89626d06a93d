"""``shrinkproof.compress``: any form of images, honest accounts, an untouched original."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import shrinkproof
from shrinkproof.artifacts.session import Session
from shrinkproof.compression import CompressedModel, compress
from shrinkproof.compressors.finetune import FineTuning
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.compressors.weights import WeightPruning
from shrinkproof.errors import (
    CompressionError,
    ModelError,
    SpecError,
    UnknownNameError,
    UsageError,
)
from shrinkproof.testing.toys import tiny_images, tiny_model
from shrinkproof.training.feed import ImageFeed

from .compress_builder import EXAMPLE, HALF, pair, same

PRUNE = WeightPruning(ratio=0.5)
TUNE = FineTuning(epochs=1, learning_rate=0.01, batch=16)


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="module")
def pruned() -> CompressedModel:
    return compress(tiny_model(), [PRUNE], example=EXAMPLE)


# what comes out


def test_requested_and_achieved_stand_side_by_side(pruned):
    # 216 + 576 convolution weights of the network; half of them are zero.
    assert pruned.requested == ({"step": "prune.weights", "ratio": 0.5},)
    assert pruned.achieved[0]["step"] == "prune.weights"
    assert pruned.achieved[0]["ratio"] == 0.5
    zeros = sum(int((m.weight == 0).sum()) for m in pruned.module if isinstance(m, nn.Conv2d))
    assert zeros == (216 + 576) // 2


def test_it_is_called_like_the_network(pruned):
    inputs, _ = pair(4)
    with torch.no_grad():
        assert torch.equal(pruned(inputs), pruned.module(inputs))
        assert torch.equal(pruned.original(inputs), tiny_model()(inputs))
    assert repr(pruned) == "CompressedModel(Sequential: prune.weights)"


@pytest.mark.parametrize(
    "step",
    [PRUNE, {"prune.weights": {"ratio": 0.5}}, Recipe((PRUNE,))],
    ids=["instance", "mapping", "recipe"],
)
def test_every_form_of_a_step_gives_the_same(pruned, step):
    found = compress(tiny_model(), [step], example=EXAMPLE)
    assert same(found.module.state_dict(), pruned.module.state_dict())
    assert found.candidate == pruned.candidate
    assert found.changes == pruned.changes


def test_names_and_empty_settings_are_steps():
    for step in ("fold", {"fold": {}}, {"fold": None}):
        assert compress(tiny_model(), [step], example=EXAMPLE).changes[0].step == "fold"


def test_the_candidate_depends_on_weights_steps_and_seed(pruned):
    others = (
        compress(tiny_model(seed=1), [PRUNE], example=EXAMPLE),
        compress(tiny_model(), [WeightPruning(ratio=0.6)], example=EXAMPLE),
        compress(tiny_model(), [PRUNE], example=EXAMPLE, seed=1),
    )
    assert len({pruned.candidate.key, *(other.candidate.key for other in others)}) == 4


def test_a_study_draws_the_same_numbers():
    from shrinkproof import randomness
    from shrinkproof.compressors.recipe import Recipe
    from shrinkproof.protocols import Context
    from shrinkproof.tasks import Classification

    feed = ImageFeed(tiny_images(), HALF)
    context = Context(
        task=Classification(),
        example=EXAMPLE,
        device=torch.device("cpu"),
        stream=lambda *parts: randomness.stream(3, "prepare", 0, *parts),
        training=feed,
    )
    module, _ = Recipe((PRUNE, TUNE)).apply(tiny_model(), context)
    found = compress(
        tiny_model(),
        [PRUNE, TUNE],
        example=EXAMPLE,
        training=tiny_images(),
        preprocess=HALF,
        seed=3,
    )
    assert same(found.module.state_dict(), module.state_dict())


@pytest.mark.slow
def test_summary_tells_sizes_and_steps(pruned):
    lines = pruned.summary().splitlines()
    assert max(map(len, lines)) <= 80
    table = {line[:16].strip(): line[16:].split() for line in lines[1:6]}
    # Convolutions 216 + 576, norms 2 * 16, linear layer 8 * 4 + 4.
    assert table["parameters"] == ["860", "860", "1.0000"]
    assert table["non-zeros"] == ["860", "464", "0.5395"]
    # 16 * 16 * 216 + 8 * 8 * 576 + 8 * 4.
    assert table["MACs"] == ["92,192", "92,192", "1.0000"]
    assert table["file bytes"][0] == f"{pruned.before.bytes:,}"
    assert table["zip bytes"][1] == f"{pruned.after.bytes_zip:,}"
    assert pruned.after.bytes_zip < pruned.before.bytes_zip
    text = "\n".join(lines)
    assert "step 1: prune.weights\n  asked       ratio 0.5\n  reached     ratio 0.5" in text
    assert "left alone  9: fully connected" in text


class Odd(nn.Module):
    """A network that PyTorch runs and that has no ONNX form."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        out = self.conv(x).mean((2, 3))
        return out if float(out.sum()) > 1e9 else out + 1


@pytest.mark.slow
def test_what_cannot_be_exported_is_summed_up_with_the_reason(tmp_path):
    found = compress(Odd(), [PRUNE], example=EXAMPLE)
    assert (found.before.bytes, found.after.bytes_zip) == (None, None)
    assert "must be expressible in ONNX" in found.after.reason
    text = found.summary()
    assert "no file after: " in text
    assert max(map(len, text.splitlines())) <= 80
    with pytest.raises(shrinkproof.ExportError):
        found.save(tmp_path / "out")


# save and load


@pytest.mark.slow
def test_saved_networks_come_back_bit_for_bit(tmp_path):
    inputs, targets = pair()
    steps = [PRUNE, TUNE, "fold", {"cluster": {"levels": 8}}, "quantize.static"]
    found = compress(
        tiny_model(), steps, example=EXAMPLE, calibration=(inputs, targets),
        training=(inputs, targets),
    )  # fmt: skip
    assert found.save(tmp_path / "out") == tmp_path / "out"
    back = CompressedModel.load(tmp_path / "out", tiny_model(seed=5))
    with torch.no_grad():
        assert torch.equal(back(inputs), found(inputs))
    assert (back.changes, back.candidate) == (found.changes, found.candidate)
    assert back.example.shape == EXAMPLE.shape
    assert back.after == found.after
    logits = Session(tmp_path / "out" / "model.onnx")(inputs.numpy())
    assert np.abs(logits - found(inputs).detach().numpy()).max() < 0.1


@pytest.mark.slow
def test_networks_without_some_channels_come_back(tmp_path):
    steps = [{"prune.channels": {"ratio": 0.5, "round_to": 1}}, "quantize.static"]
    found = compress(tiny_model(), steps, example=EXAMPLE, calibration=pair())
    assert found.after.parameters < 0.6 * found.before.parameters
    assert found.after.macs < 0.6 * found.before.macs
    back = CompressedModel.load(found.save(tmp_path / "out"), tiny_model(seed=5))
    inputs, _ = pair()
    with torch.no_grad():
        assert torch.equal(back(inputs), found(inputs))


@pytest.mark.slow
def test_saving_again_replaces_and_gives_equal_bytes(pruned, tmp_path):
    pruned.save(tmp_path / "out")
    first = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    (tmp_path / "out" / "notes.txt").write_text("mine")
    pruned.save(tmp_path / "out")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert first == {n: (tmp_path / "out" / n).read_bytes() for n in first}
    elsewhere = CompressedModel.load(tmp_path / "out", tiny_model()).save(tmp_path / "copy")
    assert first == {n: (elsewhere / n).read_bytes() for n in first}


def test_foreign_directories_are_refused(pruned, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    (tmp_path / "weights.safetensors").write_text("")
    with pytest.raises(UsageError, match=r"must be empty or hold .*, got 'thesis.tex'; choose"):
        pruned.save(tmp_path)
    with pytest.raises(UsageError, match="must be a directory, got a file"):
        pruned.save(tmp_path / "thesis.tex")


def test_a_killed_writer_leaves_a_directory_that_may_be_used(pruned, tmp_path):
    from shrinkproof.compression import check_place

    (tmp_path / ".weights.safetensors.x1").write_text("")
    (tmp_path / "weights.safetensors").write_text("")
    check_place(tmp_path)


@pytest.mark.parametrize("name", ["changes.json", "weights.safetensors", "recipe.json"])
@pytest.mark.slow
def test_damaged_files_are_named(pruned, tmp_path, name):
    pruned.save(tmp_path)
    (tmp_path / name).write_text("{")
    with pytest.raises(ModelError, match=name):
        CompressedModel.load(tmp_path, tiny_model())
    with pytest.raises(ModelError, match="must"):
        CompressedModel.load(tmp_path / "nowhere", tiny_model())


@pytest.mark.slow
def test_another_architecture_is_refused(pruned, tmp_path):
    pruned.save(tmp_path)
    with pytest.raises(ModelError, match="the weights must fit the model"):
        CompressedModel.load(tmp_path, tiny_model(classes=7))


# the caller's network


def test_the_network_is_left_as_it_was():
    model = tiny_model().train()
    model[0].weight.requires_grad_(False)
    model[9].weight.grad = torch.ones_like(model[9].weight)
    before, modes = state(model), [m.training for m in model.modules()]
    found = compress(model, [PRUNE, TUNE], example=EXAMPLE, training=pair())
    assert same(state(model), before)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(model[9].weight.grad, torch.ones_like(model[9].weight))
    assert not any(m.training for m in found.module.modules())
    assert not any(m.training for m in found.original.modules())


def test_training_mode_gives_what_evaluation_mode_gives(pruned):
    found = compress(tiny_model().train(), [PRUNE], example=EXAMPLE)
    assert same(found.module.state_dict(), pruned.module.state_dict())


def test_frozen_parameters_stay_frozen():
    model = tiny_model()
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    found = compress(model, [TUNE], example=EXAMPLE, training=pair())
    assert not found.module[0].weight.requires_grad
    assert torch.equal(found.module[0].weight, model[0].weight)
    assert found.module[4].weight.requires_grad
    assert not torch.equal(found.module[4].weight, model[4].weight)


class Shared(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.relu(self.first(x))).mean((2, 3))


def test_shared_weights_stay_shared_and_count_once():
    found = compress(Shared(), [PRUNE], example=EXAMPLE)
    assert found.module.first.weight is found.module.second.weight
    assert found.after.parameters == 81 + 6
    assert "shares its weight with first" in found.changes[0].untouched["second"]


def test_a_network_without_layers_is_refused():
    with pytest.raises(CompressionError, match="must have convolutions or fully connected"):
        compress(nn.Flatten(), [PRUNE], example=EXAMPLE)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("resnet20", "must be a torch.nn.Module, got str"),
        (nn.Linear(5, 2), r"must accept the example of shape \(1, 3, 16, 16\), got RuntimeError"),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3)), "must have plain parameters"),
    ],
    ids=["name", "wrong-input", "parametrized"],
)
def test_networks_that_cannot_be_compressed(model, message):
    with pytest.raises(ModelError, match=message):
        compress(model, [PRUNE], example=EXAMPLE)


def test_a_network_with_nan_is_refused():
    model = tiny_model()
    with torch.no_grad():
        model[9].bias[0] = float("nan")
    with pytest.raises(ModelError, match="outputs must be finite"):
        compress(model, [PRUNE], example=EXAMPLE)


def test_a_network_that_cannot_be_copied_is_refused():
    model = tiny_model()
    model.cache = model[0].weight * 2
    with pytest.raises(ModelError, match="must be copyable"):
        compress(model, [PRUNE], example=EXAMPLE)


def test_a_network_in_two_places_is_refused():
    model = tiny_model()
    model[9].to("meta")
    with pytest.raises(ModelError, match="one device, got cpu, meta"):
        compress(model, [PRUNE], example=EXAMPLE)


@pytest.mark.parametrize(
    ("example", "got"),
    [
        (torch.zeros(3, 16, 16), r"got \(3, 16, 16\) float32"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), r"got \(1, 3, 16, 16\) uint8"),
        (torch.zeros(0, 3, 16, 16), r"got \(0, 3, 16, 16\)"),
        (np.zeros((1, 3, 16, 16), np.float32), "got ndarray"),
    ],
    ids=["no-batch", "uint8", "empty", "array"],
)
def test_wrong_examples(example, got):
    with pytest.raises(UsageError, match=f"example: must be one preprocessed input.*{got}"):
        compress(tiny_model(), [PRUNE], example=example)


def test_unknown_tasks_are_named():
    with pytest.raises(UnknownNameError, match="classification"):
        compress(tiny_model(), [PRUNE], example=EXAMPLE, task="classify")


# steps


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("prune.wieghts", "step 1: unknown compressor 'prune.wieghts'; did you mean 'prune.w"),
        ({"prune.weights": {"ratoi": 0.5}}, "step 1: prune.weights.ratoi: unknown field; did you"),
        ({"prune.weights": {}}, "step 1: prune.weights.ratio: is required"),
        ({"prune.weights": {"ratio": 1}}, "ratio: must be between 0 and 1 (excluded), got 1"),
        ({"prune.weights": {"ratio": 0}}, "ratio: must be between 0 and 1 (excluded), got 0"),
        ({"prune.weights": {"ratio": 50}}, "not percent: write 0.50"),
        ({"prune.weights": {"ratio": "half"}}, "ratio: must be a number, got 'half'"),
        ({"prune.weights": 0.5}, "prune.weights: settings must be a mapping of fields, got 0.5"),
        ({"prune.weights": {"ratio": np.float32}}, "settings must be plain JSON values"),
        ({"fold": {}, "cluster": {}}, "got 2 keys (fold, cluster)"),
        (WeightPruning, "got WeightPruning; write WeightPruning(...)"),
        (0.5, "must be a compressor, a name, or a one-key mapping"),
    ],
    ids=str,
)
def test_wrong_steps(step, message):
    with pytest.raises(SpecError) as caught:
        compress(tiny_model(), [step], example=EXAMPLE)
    assert any(message in line for line in caught.value.problems)
    assert all(line.startswith("step 1: ") for line in caught.value.problems)


def test_all_wrong_steps_are_told_at_once():
    with pytest.raises(SpecError) as caught:
        compress(tiny_model(), ["prun", "fold", {"cluster": {"level": 4}}, 3], example=EXAMPLE)
    assert [line[:7] for line in caught.value.problems] == [
        "step 1:",
        "step 3:",
        "step 3:",
        "step 4:",
    ]


@pytest.mark.parametrize("steps", ["fold", {"fold": {}}, PRUNE, [], None], ids=str)
def test_steps_must_be_a_list(steps):
    with pytest.raises(UsageError, match="steps: must"):
        compress(tiny_model(), steps, example=EXAMPLE)


# progress


def test_training_tells_how_far_it_is_and_prints_nothing(capsys):
    notes: list[dict] = []
    compress(tiny_model(), [TUNE], example=EXAMPLE, training=pair(), note=notes.append)
    assert [note["epoch"] for note in notes if "epoch" in note] == [1]
    json.dumps(notes)
    assert capsys.readouterr() == ("", "")


def test_scratch_lets_a_training_go_on(tmp_path: Path):
    settings = {"example": EXAMPLE, "training": pair(), "scratch": tmp_path / "scratch"}
    first = compress(tiny_model(), [TUNE], **settings)
    assert (tmp_path / "scratch").is_dir()
    again = compress(tiny_model(), [TUNE], **settings)
    assert same(first.module.state_dict(), again.module.state_dict())


def test_the_public_names_are_these():
    assert shrinkproof.compress is compress
    assert shrinkproof.CompressedModel is CompressedModel


def test_copies_are_independent(pruned):
    twin = copy.deepcopy(pruned)
    with torch.no_grad():
        twin.module[0].weight.zero_()
    assert pruned.module[0].weight.any()
