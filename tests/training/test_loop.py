import numpy as np
import pytest
import torch
from torch import nn

from shrinkproof.data.imageset import ImageSet, hash_pixels
from shrinkproof.errors import CompressionError, DataError, ModelError, UsageError
from shrinkproof.models.loaded import Preprocess
from shrinkproof.randomness import stream
from shrinkproof.tasks import TASKS, Classification
from shrinkproof.training.feed import ImageFeed
from shrinkproof.training.loop import rate_at, train


def images(count=33, classes=2):
    rng = np.random.default_rng(0)
    target = (np.arange(count) % classes).astype(np.int64)
    pixels = rng.integers(0, 100, (count, 4, 4, 3))
    pixels[target == 1, :, :, 0] += 120
    pixels = pixels.astype(np.uint8)
    names = tuple(map(str, range(classes)))
    index = np.arange(count, dtype=np.int64)
    return ImageSet("toy", pixels, (4, 4), target, names, index, hash_pixels(pixels))


@pytest.fixture
def feed():
    return ImageFeed(images(), Preprocess())


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(16, 2),
        )


def run(model, feed, **settings):
    usual = {"task": Classification(), "epochs": 4, "batch": 8, "learning_rate": 0.05}
    return train(model, feed, **{**usual, "stream": stream, **settings})


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "onecycle"])
def test_learns(net, feed, optimizer, schedule):
    rate = 0.05 if optimizer == "sgd" else 0.01
    history = run(net, feed, optimizer=optimizer, schedule=schedule, learning_rate=rate)
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["accuracy"] > 0.9
    assert [h["epoch"] for h in history] == [1, 2, 3, 4]
    assert not net.training
    assert all(p.grad is None for p in net.parameters())


def test_same_stream_same_bits_and_no_global_seed(net, feed):
    import copy

    twin = copy.deepcopy(net)
    torch.manual_seed(1)
    run(net, feed, augment=("crop", "flip"))
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    run(twin, feed, augment=("crop", "flip"))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))
    torch.manual_seed(1)
    assert torch.equal(state, torch.random.get_rng_state())


def test_bfloat16_trains_float32_weights(net, feed):
    history = run(net, feed, precision="bfloat16")
    assert history[-1]["loss"] < history[0]["loss"]
    assert all(p.dtype == torch.float32 for p in net.parameters())


def test_weight_decay_spares_bias_and_batch_norm(net, feed):
    class Nothing(Classification):
        def loss(self, outputs, target, *, label_smoothing=0.0):
            return 0.0 * outputs.sum()

    before = {k: v.clone() for k, v in net.named_parameters()}
    run(net, feed, task=Nothing(), epochs=1, weight_decay=0.5)
    for name, value in net.named_parameters():
        assert torch.equal(value, before[name]) == (value.ndim == 1), name


def test_last_batch_of_one_image_is_left_out(feed):
    # 33 images in batches of 8 would leave one, which batch normalization of 1 x 1 maps refuses.
    net = nn.Sequential(nn.Conv2d(3, 2, 4), nn.BatchNorm2d(2), nn.Flatten())
    assert len(run(net, feed, epochs=1)) == 1


@pytest.mark.filterwarnings("ignore:overflow")
def test_diverging_loss_names_epoch_step_and_rate(net, feed):
    with pytest.raises(CompressionError, match=r"got (nan|inf) in epoch 1, step 2, at .* 1e\+30"):
        run(net, feed, learning_rate=1e30, schedule="constant")
    assert not net.training


def test_step_that_breaks_the_weights_last_is_noticed(net, feed):
    with pytest.raises(CompressionError, match="weights must stay finite"):
        run(net, feed, epochs=1, batch=33, learning_rate=1e38, weight_decay=1e30)


def test_frozen_model_is_refused(net, feed):
    net.requires_grad_(False)
    with pytest.raises(CompressionError, match="all frozen"):
        run(net, feed)


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("batch", 0), ("learning_rate", 0.0), ("weight_decay", -1.0)],
)
def test_settings_out_of_range_are_named(net, feed, name, value):
    with pytest.raises(UsageError, match=name):
        run(net, feed, **{name: value})


def test_schedules_by_hand():
    assert rate_at(7, 10, 0.1, "constant") == 0.1
    assert rate_at(0, 10, 0.1, "cosine") == 0.1
    assert rate_at(5, 10, 0.1, "cosine") == pytest.approx(0.05)
    assert [rate_at(k, 10, 0.3, "onecycle") for k in range(4)] == pytest.approx(
        [0.1, 0.2, 0.3, 0.3]
    )
    assert rate_at(9, 10, 0.3, "onecycle") < 0.02
    assert rate_at(0, 1, 0.3, "onecycle") == 0.3


def test_loss_is_the_cross_entropy():
    task = TASKS.create("classification")
    outputs = torch.log(torch.tensor([[0.25, 0.75], [0.5, 0.5]]))
    target = torch.tensor([1, 0])
    expected = -(np.log(0.75) + np.log(0.5)) / 2
    assert float(task.loss(outputs, target)) == pytest.approx(expected)
    assert int(task.hits(outputs, target)) == 2


def test_wrong_outputs_and_targets_are_named():
    task = Classification()
    with pytest.raises(ModelError, match=r"logits \(N, C\) with N = 2"):
        task.loss(torch.zeros(2, 3, 4), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(DataError, match=r"0 to 2.*got 0 to 5"):
        task.loss(torch.zeros(2, 3), torch.tensor([0, 5]))
