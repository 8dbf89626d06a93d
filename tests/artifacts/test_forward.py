import copy

import numpy as np
import pytest
import torch
from torch import nn

from shrinkproof.artifacts.forward import Forward, on_gpu
from shrinkproof.artifacts.session import Session
from shrinkproof.errors import MissingExtraError, ModelError


class _Viewing(nn.Module):
    """Takes feature maps for contiguous ones, as much user code does."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.linear = nn.Linear(4 * 64, 5)

    def forward(self, images):
        maps = self.conv(images)
        return self.linear(maps.view(len(maps), -1))


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)).eval()


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((12, 3, 8, 8)).astype(np.float32)


def _plain(network, images):
    with torch.inference_mode():
        return copy.deepcopy(network)(torch.from_numpy(images)).numpy()


def test_a_contiguous_network_in_float32_gives_what_the_module_gives(network, images):
    expected = _plain(network, images)
    assert np.array_equal(Forward(network)(images), expected)


def test_channels_last_only_changes_the_last_bits(network, images):
    expected = _plain(network, images)
    found = Forward(network, memory_format="channels_last")(images)
    assert np.allclose(found, expected, rtol=0, atol=1e-5)
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_bfloat16_rounds_and_gives_float32(network, images):
    expected = _plain(network, images)
    found = Forward(network, precision="bfloat16")(images)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 0.03
    assert network[0].weight.dtype == torch.float32


def test_the_same_batch_gives_the_same_bits(network, images):
    predict = Forward(network, precision="bfloat16", memory_format="auto")
    assert np.array_equal(predict(images), predict(images))


def test_code_that_needs_contiguous_maps_gets_them_where_we_choose(images):
    network = _Viewing().eval()
    expected = _plain(network, images)
    predict = Forward(network, memory_format="auto")
    assert np.array_equal(predict(images), expected)
    assert np.array_equal(predict(images[:5]), _plain(network, images[:5]))


def test_code_that_needs_contiguous_maps_is_refused_where_the_study_chooses(images):
    predict = Forward(_Viewing().eval(), memory_format="channels_last")
    with pytest.raises(ModelError, match=r"memory_format: channels_last .* 'reshape'"):
        predict(images)


def test_other_errors_stay_what_they_are(network):
    with pytest.raises(RuntimeError, match="channels"):
        Forward(network, memory_format="auto")(np.zeros((2, 4, 8, 8), dtype=np.float32))


def test_a_gpu_that_is_not_there_is_an_error(network):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ModelError, match=r"device: cuda must be a GPU that PyTorch sees.*built"):
        Forward(network, device="cuda")


def test_a_runtime_without_gpus_says_what_to_install(network, tmp_path):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("the runtime has GPUs")
    (tmp_path / "model.onnx").write_bytes(b"not read")
    with pytest.raises(MissingExtraError, match="install onnxruntime-gpu"):
        Session(tmp_path / "model.onnx", device="cuda")


def test_images_without_room_on_the_gpu_are_left_to_the_network(images, monkeypatch):
    def full(tensor):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.Tensor, "pin_memory", full)
    assert on_gpu(images) is images


@pytest.fixture
def uncompiled(monkeypatch):
    """Let `torch.compile` give the network as it is, which notes the batches that it is given."""
    given = []

    def compile_nothing(network, **settings):
        def run(batch):
            given.append(len(batch))
            if len(given) == 3:
                raise torch.OutOfMemoryError("out of memory")
            return network(batch)

        return run

    monkeypatch.setattr(torch, "compile", compile_nothing)
    return given


def test_a_compiled_network_sees_the_batch_of_its_pass_alone(network, images, uncompiled):
    predict = Forward(network, is_compiled=True)
    predict.begin(12)
    assert len(predict(images[:3])) == 3  # the first batch of a pass may be its only one
    predict.begin(8)
    assert len(predict(images[:5])) == 5  # as if there had been no larger pass
    assert uncompiled == [12, 8]


def test_what_did_not_fit_compiled_is_not_filled_up_again_in_its_pass(network, images, uncompiled):
    predict = Forward(network, is_compiled=True)
    for count in (12, 12):
        predict.begin(12)
        predict(images[:count])
    with pytest.raises(torch.OutOfMemoryError):
        predict(images)
    predict(images[:6])
    predict.begin(12)
    predict(images[:6])
    assert uncompiled == [12, 12, 12, 6, 12]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_network_fills_up_its_last_batch(network, images):
    expected = _plain(network, images)
    predict = Forward(network, is_compiled=True)
    predict.begin(len(images))
    assert np.allclose(predict(images), expected, rtol=0, atol=1e-5)
    assert np.allclose(predict(images[:5]), expected[:5], rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_cannot_be_compiled_whole_is_an_error(images):
    class Branching(nn.Module):
        def forward(self, images):
            total = images.sum().item()
            return images.flatten(1) if total > 0 else -images.flatten(1)

    with pytest.raises(ModelError, match=r"must be one that torch\.compile takes"):
        Forward(Branching().eval(), is_compiled=True)(images)
