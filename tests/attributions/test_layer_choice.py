"""The layer that is looked at: its name, its size, and what the choice avoids."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from shrinkproof.attributions.layers import choose_layer, named_layer, resolution_caveat
from shrinkproof.compressors.fold import fold_batch_norm
from shrinkproof.errors import ModelError, UnknownNameError, UsageError
from shrinkproof.models.cifar import resnet
from shrinkproof.models.cifar_mobilenet import mobilenet_v2
from shrinkproof.models.cifar_vgg import vgg
from shrinkproof.testing import tiny_model

from .candidate import images

SMALL = images(1, side=32)


class Block(nn.Module):
    """A residual block whose branch works at a higher resolution than what follows it."""

    def __init__(self):
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        self.conv2, self.short = nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 1, 2)
        self.relu2 = nn.ReLU()

    def forward(self, x):
        return self.relu2(self.conv2(self.relu1(self.conv1(x))) + self.short(x))


def head(*layers):
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()


@pytest.mark.parametrize(
    ("module", "name", "size"),
    [
        (lambda: resnet(8, 8), "layer3.0.relu2", (8, 8)),
        (lambda: vgg(16), "features.relu7", (8, 8)),
        (lambda: mobilenet_v2(), "features.14.conv.0.2", (8, 8)),
    ],
    ids=["resnet", "vgg", "mobilenet"],
)
def test_it_is_the_last_of_8x8_places_and_survives_folding(module, name, size):
    module = module().eval()
    folded = fold_batch_norm(copy.deepcopy(module))
    for also in ((), (folded,)):
        layer = choose_layer(module, SMALL, also=also)
        assert (layer.name, layer.size, layer.caveat) == (name, size, "")


def test_it_is_on_the_way_and_not_beside_it():
    module = head(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), Block())
    assert choose_layer(module, images(1, side=14)).name == "1"


def test_a_bypassed_layer_comes_if_there_is_no_other():
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.out = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 2)

        def forward(self, x):
            return self.out((self.conv(x) + x).mean((2, 3)))

    assert choose_layer(Around().eval(), SMALL).name == "conv"


def test_small_images_give_the_last_of_the_largest_and_a_caveat():
    layer = choose_layer(tiny_model(), images(1, side=6))
    assert (layer.name, layer.size) == ("2", (6, 6))
    assert layer.caveat.startswith("maps of 6x6 have 36 values: too few")


@pytest.mark.parametrize(("size", "said"), [((8, 8), ""), ((4, 4), "4x4 have 16 values")])
def test_few_places_are_told(size, said):
    assert said in resolution_caveat(size)
    assert bool(said) == bool(resolution_caveat(size))


def test_a_rectifier_in_place_is_not_taken_for_the_batch_norm_before_it():
    module = head(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Identity())
    assert choose_layer(module, SMALL).name == "2"


def test_channels_last_are_not_taken_for_places():
    class Last(nn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1)

    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Last(), nn.LayerNorm(4))
    module.extend([nn.Flatten(), nn.Linear(4 * 30 * 30, 2)])
    assert choose_layer(module.eval(), SMALL).name == "1"


def test_channels_may_differ_and_sizes_may_not():
    def build(width, stride):
        return head(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 4, 3, stride), nn.ReLU())

    assert choose_layer(build(4, 1), SMALL, also=[build(9, 1)]).name == "3"
    assert choose_layer(build(4, 1), SMALL, also=[build(9, 1), build(4, 2)]).name == "1"


def test_networks_that_share_no_layer():
    class Functional(nn.Module):
        """Once folded, nothing of it that has a name shows what followed the batch norm."""

        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.out = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

        def forward(self, x):
            return self.out(torch.relu(self.norm(self.conv(x))).mean((2, 3)))

    module = Functional().eval()
    folded = fold_batch_norm(copy.deepcopy(module))
    with pytest.raises(ModelError, match="that all of them share, got none; fold the batch norms"):
        choose_layer(module, SMALL, also=[folded])
    assert choose_layer(folded, SMALL, also=[folded]).name == "conv"
    layer = named_layer("conv", module, SMALL, also=[folded])
    assert "goes into the batch norm 'norm' in some" in layer.caveat
    assert named_layer("conv", folded, SMALL, also=[folded]).caveat == ""


def test_a_network_without_places():
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2)).eval()
    with pytest.raises(ModelError, match="a layer with a spatial output, got none"):
        choose_layer(module, SMALL)


def test_a_network_that_gives_no_logits():
    class Many(nn.Sequential):
        def forward(self, x):
            return {"logits": super().forward(x)}

    with pytest.raises(ModelError, match="the network must give logits, got dict"):
        choose_layer(Many(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), SMALL)


def test_layers_by_name():
    layer = named_layer("layer2", resnet(8, 8).eval(), SMALL, also=[resnet(8, 16).eval()])
    assert (layer.name, layer.size, layer.caveat) == ("layer2", (16, 16), "")
    assert "4x4 have 16" in named_layer("3", tiny_model(), images(1, side=8)).caveat


@pytest.mark.parametrize(
    ("name", "error", "sentence"),
    [
        ("layer4.0.relu2", UnknownNameError, "unknown layer 'layer4.0.relu2'; did you mean 'layer"),
        ("linear", UsageError, "'linear': must be called with a spatial output.*name one of"),
        ("pool", UsageError, "'pool': must be called with a spatial output"),
    ],
)
def test_names_that_cannot_be_looked_at(name, error, sentence):
    with pytest.raises(error, match=sentence):
        named_layer(name, resnet(8, 8).eval(), SMALL)


def test_a_name_must_have_the_same_size_in_all_networks():
    small = head(nn.Conv2d(3, 4, 3, 2))
    with pytest.raises(UsageError, match=r"'0': must have the same size .* got 30x30, 15x15"):
        named_layer("0", head(nn.Conv2d(3, 4, 3)), SMALL, also=[small])


def test_the_choice_reads_one_image_only():
    many = np.concatenate([SMALL, np.full((5, 3, 32, 32), np.nan, dtype=np.float32)])
    assert choose_layer(resnet(8, 8).eval(), many).name == "layer3.0.relu2"
