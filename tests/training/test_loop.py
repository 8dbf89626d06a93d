import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from shrinkproof.errors import CompressionError, DataError, ModelError
from shrinkproof.tasks import TASKS, Classification
from shrinkproof.training.settings import Training, outcome

from .conftest import toy_feed


def run(model, context, *, each_step=None, adjust=None, **settings):
    settings = {"epochs": 4, "batch": 8, "learning_rate": 0.05, "weight_decay": 0.0, **settings}
    return Training(**settings).run(model, context, each_step=each_step, adjust=adjust)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    "schedule",
    [
        {"schedule": "constant"},
        {"schedule": "cosine"},
        {"schedule": "onecycle"},
        {"schedule": "step", "milestones": (2, 3)},
    ],
    ids=lambda s: s["schedule"],
)
def test_learns(net, context, optimizer, schedule):
    rate = 0.05 if optimizer == "sgd" else 0.01
    history = run(net, context, optimizer=optimizer, learning_rate=rate, **schedule)
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["accuracy"] > 0.9
    assert [h["epoch"] for h in history] == [1, 2, 3, 4]
    assert not net.training
    assert all(p.grad is None for p in net.parameters())


def test_same_stream_same_bits_and_no_global_seed(net, context):
    twin = copy.deepcopy(net)
    torch.manual_seed(1)
    run(net, context, augment=("crop", "flip"))
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    run(twin, context, augment=("crop", "flip"))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))
    torch.manual_seed(1)
    assert torch.equal(state, torch.random.get_rng_state())


def test_bfloat16_trains_float32_weights(net, context):
    history = run(net, context, precision="bfloat16")
    assert history[-1]["loss"] < history[0]["loss"]
    assert all(p.dtype == torch.float32 for p in net.parameters())


def test_weight_decay_spares_bias_and_batch_norm(net, context):
    class Nothing(Classification):
        def loss(self, outputs, target, *, label_smoothing=0.0):
            return 0.0 * outputs.sum()

    before = {k: v.clone() for k, v in net.named_parameters()}
    run(net, replace(context, task=Nothing()), epochs=1, weight_decay=0.5)
    for name, value in net.named_parameters():
        assert torch.equal(value, before[name]) == (value.ndim == 1), name


@pytest.mark.parametrize(("count", "batch"), [(1, 8), (4, 1)])
def test_batch_norm_without_a_second_image_is_named(context, count, batch):
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2), torch.nn.BatchNorm1d(2))
    context = replace(context, training=toy_feed(count))
    with pytest.raises(
        CompressionError, match=r"each step must have at least 2 images.*raise batch"
    ):
        run(flat, context, epochs=1, batch=batch)


def test_last_batch_of_one_image_is_left_out(context):
    # 33 images in batches of 8 would leave one, which batch normalization of 1 x 1 maps refuses.
    net = nn.Sequential(nn.Conv2d(3, 2, 4), nn.BatchNorm2d(2), nn.Flatten())
    steps = []
    run(net, context, epochs=2, each_step=lambda done, of: steps.append((done, of)))
    assert steps == [(done, 8) for done in range(1, 9)]


def test_progress_tells_the_time_left(net, context):
    notes = []
    history = run(net, replace(context, note=notes.append))
    assert [n["epoch"] for n in notes] == [1, 2, 3, 4]
    for done, (noted, entry) in enumerate(zip(notes, history, strict=True), start=1):
        assert {k: noted[k] for k in ("loss", "accuracy", "seconds")} == {
            k: entry[k] for k in ("loss", "accuracy", "seconds")
        }
        mean = sum(h["seconds"] for h in history[:done]) / done
        assert noted["seconds_left"] == pytest.approx(mean * (4 - done))


@pytest.mark.filterwarnings("ignore:overflow")
def test_diverging_loss_names_epoch_step_and_rate(net, context):
    with pytest.raises(CompressionError, match=r"got (nan|inf) in epoch 1, step 2, at .* 1e\+30"):
        run(net, context, learning_rate=1e30, schedule="constant")
    assert not net.training


def test_step_that_breaks_the_weights_last_is_noticed(net, context):
    with pytest.raises(CompressionError, match="weights must stay finite"):
        run(net, context, epochs=1, batch=33, learning_rate=1e38, weight_decay=1e30)


def test_frozen_model_is_refused(net, context):
    net.requires_grad_(False)
    with pytest.raises(CompressionError, match="all frozen"):
        run(net, context)


@pytest.mark.parametrize(
    ("lacking", "settings", "message"),
    [
        ({"training": None}, {}, "'train', got none; add data.train"),
        ({"validation": None}, {"patience": 2}, "'select' to stop early, got none"),
        ({"validation": None}, {}, None),
    ],
)
def test_missing_images_are_named(net, context, lacking, settings, message):
    context = replace(context, **lacking)
    if message is None:
        assert len(run(net, context, **settings)) == 4
    else:
        with pytest.raises(CompressionError, match=message):
            run(net, context, **settings)


@pytest.mark.parametrize("split", ["training", "validation"])
def test_empty_split_is_an_error(net, context, split):
    class Empty:
        count = 0

        def batches(self, size, *, order=None, augment=None):
            return iter(())

    with pytest.raises(DataError, match="at least one"):
        run(net, replace(context, **{split: Empty()}), patience=1)


def test_outcome_is_that_of_the_kept_epoch():
    history = [
        {"epoch": 1, "epochs": 9, "loss": 2.0, "accuracy": 0.5, "validation_loss": 1.0},
        {"epoch": 2, "epochs": 9, "loss": 1.0, "accuracy": 0.75, "validation_loss": 3.0},
    ]
    assert outcome(history) == {
        "epochs": 2,
        "loss": 1.0,
        "accuracy": 0.75,
        "validation_loss": 3.0,
    }
    history[0]["kept"] = True
    assert outcome(history) == {
        "epochs": 2,
        "loss": 2.0,
        "accuracy": 0.5,
        "validation_loss": 1.0,
        "kept_epoch": 1,
        "stopped_early": True,
    }


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
