"""What cannot be followed stays whole, and says why."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from shrinkproof.compressors.coupling import couple
from shrinkproof.errors import CompressionError, UnsupportedLayerError

from .coupling_nets import Head, assert_cut_equals_mask, awake

SHAPE = (1, 3, 8, 8)
WIDTH = 8


class Between(nn.Module):
    """Two convolutions with a function between them; a third one is always free."""

    def __init__(self, function, *, inputs=WIDTH, inner=None):
        super().__init__()
        self.function = function
        self.free = nn.Conv2d(3, 5, 1)
        self.first, self.inner = nn.Conv2d(5, WIDTH, 3, padding=1), inner
        self.second, self.head = nn.Conv2d(inputs, 6, 1), Head(6)

    def forward(self, x):
        y = self.first(torch.relu(self.free(x)))
        y = self.function(y) if self.inner is None else self.inner(y)
        return self.head(self.second(y))


class Standardized(nn.Conv2d):
    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias)


def reasons(model, layer, dim=0):
    coupling = couple(model, torch.zeros(SHAPE))
    axis = next(a for a in coupling.axes if a == (f"{layer}.weight", dim))
    return {coupling.locked.get(int(klass), "free") for klass in coupling.axes[axis]}


HALF = WIDTH // 2
CASES = {
    "softmax over channels": (lambda y: y.softmax(1), WIDTH, "works across channels"),
    "mean over channels": (lambda y: y - y.mean(1, keepdim=True), WIDTH, "into one number"),
    "group norm": (lambda y: F.group_norm(y, 2), WIDTH, "depend on all others"),
    "layer norm": (
        lambda y: F.layer_norm(y.permute(0, 2, 3, 1), [WIDTH]).permute(0, 3, 1, 2),
        WIDTH,
        "native_layer_norm in the model makes every channel depend on all others",
    ),
    "slice": (lambda y: y[:, :HALF], HALF, "takes channels apart at fixed positions"),
    "chunk": (lambda y: sum(y.chunk(2, 1)), HALF, "takes channels apart at fixed positions"),
    "one channel": (lambda y: y[:, 1:2], 1, "takes channels apart"),
    "select": (lambda y: y.select(1, 0).unsqueeze(1), 1, "takes channels apart"),
    "unbind": (lambda y: torch.stack(y.unbind(1)[:2], 1), 2, "takes channels apart"),
    "channel shuffle": (
        lambda y: y.view(1, 2, HALF, 8, 8).transpose(1, 2).reshape(1, WIDTH, 8, 8),
        WIDTH,
        "splits channels into several axes",
    ),
    "pixel shuffle": (lambda y: F.pixel_shuffle(y, 2), 2, "pixel_shuffle in the model is an op"),
    "permutation": (lambda y: y[:, torch.arange(7, -1, -1)], WIDTH, "channels are not followed"),
    "constant": (lambda y: y + torch.ones(1, WIDTH, 8, 8), WIDTH, "tensor of fixed size"),
    "zeros as shortcut": (
        lambda y: y + torch.cat([y[:, :2] * 0, torch.zeros(1, 6, 8, 8)], 1),
        WIDTH,
        "takes channels apart",
    ),
    "written into": (lambda y: torch.zeros(1, WIDTH, 8, 8).copy_(y), WIDTH, "of fixed size"),
    "sort": (lambda y: y.sort(1)[0], WIDTH, "sort in the model is an operation"),
    "attention": (lambda y: y.flatten(2) @ y.flatten(2).mT, None, "is an operation"),
    "value of a sum": (lambda y: y if float(y.sum()) > 0 else -y, WIDTH, "into one number"),
    "padding with ones": (lambda y: F.pad(y, (0,) * 5 + (2,), value=1.0), 10, "are not zero"),
    "crop by padding": (lambda y: F.pad(y, (0,) * 5 + (-2,)), 6, "cuts channels off"),
    "padding in the model": (lambda y: F.pad(y, (0,) * 5 + (2,)), 10, "a module of its own"),
}


@pytest.mark.parametrize("name", CASES)
def test_locked_with_reason(name):
    function, inputs, expected = CASES[name]
    if inputs is None:
        model = Between(lambda y: function(y).unsqueeze(1), inputs=1)
    else:
        model = Between(function, inputs=inputs)
    found = reasons(awake(model), "first")
    assert len(found) == 1, found
    assert expected in found.pop()
    assert reasons(model, "free") == {"free"}


def test_the_rest_of_a_locked_network_can_be_cut():
    model = Between(lambda y: y.view(-1, 2, HALF, 8, 8).transpose(1, 2).reshape(-1, WIDTH, 8, 8))
    coupling, removed, _ = assert_cut_equals_mask(awake(model), SHAPE)
    assert not removed[coupling.axes["first.weight", 0]].any()


def test_input_and_output_channels_are_locked():
    model = awake(Between(torch.relu))
    assert reasons(model, "free", 1) == {"free reads the model's input"}
    assert reasons(model, "head.2") == {"reaches the model's output"}


def test_what_follows_an_unknown_operation_names_it():
    model = awake(Between(lambda y: F.pixel_shuffle(y, 2), inputs=2))
    expected = "second reads the result of pixel_shuffle in the model, through which channels"
    assert reasons(model, "second", 1).pop().startswith(expected)


def test_single_channel_over_all_channels_is_not_tied_to_them():
    class Spatial(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Conv2d(WIDTH, 1, 1)

        def forward(self, y):
            return y * self.gate(y).sigmoid()

    model = awake(Between(None, inner=Spatial()))
    assert reasons(model, "first") == {"free"}
    assert "one channel to all channels" in reasons(model, "inner.gate").pop()
    assert_cut_equals_mask(model, SHAPE)


def test_computed_weight_locks_what_it_reads():
    model = awake(Between(None, inner=Standardized(WIDTH, WIDTH, 1)))
    assert "is computed from other tensors" in reasons(model, "first").pop()
    assert "computes with this weight" in reasons(model, "inner").pop()
    assert reasons(model, "free") == {"free"}


def test_foreign_parametrization_locks_what_it_reads():
    inner = parametrizations.weight_norm(nn.Conv2d(WIDTH, WIDTH, 1))
    assert "is computed from other tensors" in reasons(Between(None, inner=inner), "first").pop()


def test_depthwise_groups_in_python_code_are_locked():
    class Spread(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(WIDTH, 1, 3, 3))

        def forward(self, y):
            return F.conv2d(y, self.weight, groups=WIDTH)

    found = reasons(Between(None, inner=Spread()), "first")
    assert found == {"the number of groups of inner stands in Python code"}


def test_padding_module_that_depends_on_values_is_locked():
    class Pad(nn.Module):
        def forward(self, y):
            return F.pad(y, (0,) * 5 + (2 if y.shape[1] > 3 else 1,))

    found = reasons(Between(None, inputs=10, inner=Pad()), "first").pop()
    assert "constant_pad_nd in 'inner' adds channels in code that cannot be edited" in found


def test_layers_that_do_not_run_are_named():
    model = Between(torch.relu)
    model.auxiliary = nn.Conv2d(WIDTH, 2, 1)
    coupling = couple(model, torch.zeros(SHAPE))
    assert coupling.unused == ("auxiliary",)


def test_model_that_does_not_run_names_the_place():
    model = Between(None, inner=nn.Conv2d(WIDTH + 1, WIDTH, 1))
    with pytest.raises(CompressionError, match=r"must run on an input .* RuntimeError in 'inner'"):
        couple(model, torch.zeros(SHAPE))


def test_model_without_layers_is_refused():
    with pytest.raises(UnsupportedLayerError, match="got none that ran"):
        couple(nn.Flatten(), torch.zeros(SHAPE))
