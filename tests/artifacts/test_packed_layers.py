"""The account of each layer: by hand, and in sum equal to the sizes of the whole model."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from shrinkproof.artifacts.account import WHOLE, account_of, macs_by_layer
from shrinkproof.artifacts.packed import write_packed
from shrinkproof.artifacts.sizes import file_bytes, macs, parameter_counts
from shrinkproof.compressors.constraint import Mask, constrain
from shrinkproof.errors import ModelError
from shrinkproof.records import Change


def account(module, example, folder, changes=()):
    forms = write_packed(folder / "packed", module.state_dict())
    return account_of(module, example, forms, changes)


class Mixed(nn.Module):
    """A convolution called twice, a shared weight, a product without a layer, a raw parameter."""

    def __init__(self):
        super().__init__()
        self.twice = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.shift = nn.Parameter(torch.zeros(4, 1, 1))

    def forward(self, x):
        x = self.twice(self.twice(x)) + self.shift
        rows = self.second(self.first(x.flatten(2).transpose(1, 2)))
        return rows @ rows.transpose(1, 2)


def test_layers_by_hand(tmp_path):
    model = Mixed().eval()
    with torch.no_grad():
        model.twice.weight.copy_(torch.arange(144).reshape(4, 4, 3, 3) % 4 / 10)
    change = Change(
        step="cluster", version=1, requested={"levels": 4}, achieved={"levels": 4, "tensors": 1}
    )
    found = account(model, torch.randn(2, 4, 5, 5), tmp_path, [change])
    layers = found["layers"]
    assert list(layers) == [WHOLE, "twice", "first", "second"]
    twice = layers["twice"]
    assert (twice["kind"], twice["parameters"], twice["nonzero"]) == ("Conv2d", 144, 108)
    assert twice["macs"] == 2 * 4 * 25 * 36
    assert twice["bytes_dense"] == 4 * 144
    assert twice["bytes_packed"] == 144 * 2 // 8 + 4 * 4
    assert twice["tensors"]["weight"] == {
        "shape": [4, 4, 3, 3],
        "zeros": 36,
        "distinct": 4,
        "form": "4 levels of float32",
        "bits": 2,
    }
    assert layers["first"]["parameters"] == 20
    assert layers["second"]["parameters"] == layers["second"]["bytes_packed"] == 0
    assert layers["second"]["tensors"] == {"weight": {"same": "first.weight"}}
    assert layers["first"]["macs"] == layers["second"]["macs"] == 25 * 16
    assert layers[WHOLE]["macs"] == 25 * 25 * 4
    assert layers[WHOLE]["tensors"]["shift"]["zeros"] == 4
    assert found["steps"] == [
        {"step": "cluster", "requested": {"levels": 4}, "achieved": {"levels": 4, "tensors": 1}}
    ]


@pytest.mark.parametrize("name", ["float", "sparse int8", "levels int8"])
def test_columns_add_up_to_the_sizes_of_the_candidate(make, name):
    made = make(name)
    stored = json.loads((made.folder / "layers.json").read_text())
    totals = stored["totals"]
    layers = stored["layers"].values()
    for column, total in totals.items():
        assert sum(layer[column] for layer in layers) == total
    assert (totals["parameters"], totals["nonzero"]) == parameter_counts(made.module)
    assert totals["macs"] == macs(made.module, made.context.example)
    for column, file in (
        ("bytes_dense", "weights.safetensors"),
        ("bytes_packed", "weights.packed.safetensors"),
    ):
        header = 8 + int.from_bytes((made.folder / file).read_bytes()[:8], "little")
        assert totals[column] == file_bytes(made.folder / file) - header


def test_storage_and_steps_are_those_of_the_recipe(make):
    made = make("levels int8")
    stored = json.loads((made.folder / "layers.json").read_text())
    weight = stored["layers"]["blocks.1.conv2"]["tensors"]["weight"]
    assert weight["form"].endswith("levels of int8")
    assert weight["bits"] == 4
    assert weight["distinct"] <= 16
    assert [step["step"] for step in stored["steps"]] == ["fold", "cluster", "quantize.static"]
    assert stored["steps"][1]["requested"] == {"levels": 16}


def test_products_without_a_layer_belong_to_who_calls_them():
    attention = nn.MultiheadAttention(8, 2, batch_first=True)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0]

    model = Net().train()
    example = torch.randn(3, 7, 8)
    assert sum(macs_by_layer(model, example).values()) == macs(model, example)


def test_hooks_are_gone_afterwards():
    model = nn.Sequential(nn.Linear(4, 3))
    macs_by_layer(model, torch.zeros(1, 4))
    assert not model[0]._forward_hooks
    assert not model[0]._forward_pre_hooks


def test_constrained_model_has_no_account():
    model = nn.Sequential(nn.Linear(4, 3))
    constrain(model[0], "weight", Mask(torch.ones(3, 4, dtype=torch.bool)))
    with pytest.raises(ModelError, match="layer '0' must be baked"):
        account_of(model, torch.zeros(1, 4), {}, ())
