import copy
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shrinkproof.compressors.constraint import (
    Codebook,
    Mask,
    average_level_gradients,
    constrain,
)
from shrinkproof.errors import StoreError
from shrinkproof.randomness import stream
from shrinkproof.training import checkpoint
from shrinkproof.training.checkpoint import NAME
from shrinkproof.training.settings import Distillation, Training

SCRIPT = Path(__file__).with_name("killed_training.py")


class KilledError(Exception):
    pass


@pytest.fixture(autouse=True)
def after_every_epoch(monkeypatch):
    monkeypatch.setattr(checkpoint, "INTERVAL", 0.0)


def without_times(history):
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in history]


def dying_at(last):
    """Return a hook that raises after so many steps of this process."""
    left = [last]

    def each_step(done, steps):
        left[0] -= 1
        if not left[0]:
            raise KilledError

    return each_step


def masked(net):
    constrain(net[0], "weight", Mask(net[0].weight.detach() > 0))


def clustered(net):
    masked(net)
    weight = net[5].weight
    index = (weight > 0).long()
    constrain(net[5], "weight", Codebook(torch.tensor([-0.1, 0.1]), index))


def unconstrained(net):
    pass


@pytest.mark.parametrize("prepare", [unconstrained, masked, clustered], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "settings",
    [
        {"augment": ("crop", "flip")},
        {"optimizer": "adam", "patience": 1, "learning_rate": 0.1},
        {"precision": "bfloat16", "schedule": "step", "milestones": (2,), "gamma_l1": 0.01},
        {"distill": Distillation(), "patience": 4},
    ],
    ids=["sgd", "adam-stopping", "bfloat16-step", "distilled"],
)
def test_an_interrupted_run_ends_bit_for_bit_the_same(net, context, tmp_path, prepare, settings):
    settings = Training(**{"epochs": 5, "batch": 8, "learning_rate": 0.05, **settings})
    context = replace(context, teacher=copy.deepcopy(net).eval())
    prepare(net)
    nets = [copy.deepcopy(net) for _ in range(4)]
    whole = settings.run(nets[0], context, adjust=average_level_gradients(nets[0]))
    torn = replace(context, scratch=tmp_path / "step")
    for model, steps in zip(nets[1:3], (6, 5), strict=True):
        with pytest.raises(KilledError):
            settings.run(
                model, torn, adjust=average_level_gradients(model), each_step=dying_at(steps)
            )
    torch.manual_seed(99)
    history = settings.run(nets[3], torn, adjust=average_level_gradients(nets[3]))
    assert without_times(history) == without_times(whole)
    expected = nets[0].state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in nets[3].state_dict().items())


def test_a_finished_run_is_not_repeated(net, context, tmp_path):
    notes, steps = [], []
    context = replace(context, scratch=tmp_path / "a" / "b", note=notes.append)
    settings = Training(epochs=3, batch=8, patience=1)
    again = copy.deepcopy(net)
    first = settings.run(net, context)
    told = [{k: v for k, v in n.items() if k != "seconds_left"} for n in notes]
    notes.clear()
    second = settings.run(again, context, each_step=lambda *of: steps.append(of))
    assert not steps
    assert second == first
    # The history is told again, so that whoever records it has all of it.
    assert notes == told
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in again.state_dict().items())
    assert [p.name for p in context.scratch.iterdir()] == [NAME]


def test_notes_after_a_kill_count_only_fresh_time(net, context, tmp_path):
    notes = []
    context = replace(context, scratch=tmp_path)
    settings = Training(epochs=3, batch=8)
    with pytest.raises(KilledError):
        settings.run(copy.deepcopy(net), context, each_step=dying_at(5))
    history = settings.run(net, replace(context, note=notes.append))
    assert [n["epoch"] for n in notes] == [1, 2, 3]
    assert "seconds_left" not in notes[0]
    assert notes[1]["seconds_left"] == history[1]["seconds"]
    assert notes[2]["seconds_left"] == 0


def other_settings(settings, context, net):
    return replace(settings, learning_rate=0.02), context, net


def other_images(settings, context, net):
    from .conftest import toy_feed

    return settings, replace(context, training=toy_feed(40)), net


def other_pixels(settings, context, net):
    from .conftest import toy_feed

    return settings, replace(context, training=toy_feed(seed=5)), net


def other_preprocessing(settings, context, net):
    from shrinkproof.models.loaded import Preprocess

    feed = replace(context.training, preprocess=Preprocess(mean=(0.5, 0.5, 0.5)))
    return settings, replace(context, training=feed), net


def other_calibration(settings, context, net):
    # A criterion may read them in the middle of the training.
    from .conftest import toy_feed

    return settings, replace(context, calibration=toy_feed(4)), net


def other_stream(settings, context, net):
    return settings, replace(context, stream=lambda *parts: stream(1, *parts)), net


def other_weights(settings, context, net):
    with torch.no_grad():
        net[5].bias[0] += 1
    return settings, context, net


def other_purpose(settings, context, net):
    return settings, context, net


@pytest.mark.parametrize(
    "change",
    [
        *(other_settings, other_images, other_pixels, other_preprocessing, other_calibration),
        *(other_stream, other_weights, other_purpose),
    ],
    ids=lambda f: f.__name__,
)
def test_a_checkpoint_of_another_training_is_ignored_with_a_note(net, context, tmp_path, change):
    notes = []
    settings = Training(epochs=2, batch=8)
    context = replace(context, scratch=tmp_path)
    settings.run(copy.deepcopy(net), context)
    settings, context, net = change(settings, context, net)
    twin = copy.deepcopy(net)
    identity = {"ratio": 0.5} if change is other_purpose else None
    settings.run(net, replace(context, note=notes.append), identity=identity)
    assert "belongs to another training; the training starts from" in notes[0]["message"]
    settings.run(twin, replace(context, scratch=None))
    assert all(torch.equal(v, twin.state_dict()[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_damaged_checkpoint_is_ignored_with_a_note(net, context, tmp_path, damage):
    notes = []
    settings = Training(epochs=2, batch=8)
    context = replace(context, scratch=tmp_path)
    again = copy.deepcopy(net)
    settings.run(net, context)
    file = tmp_path / NAME
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    broken = {"cut": content[:-9], "flipped": content, "empty": b"", "text": b"hello " * 20}
    file.write_bytes(broken[damage])
    settings.run(again, replace(context, note=notes.append))
    assert f"{file} is damaged" in notes[0]["message"]
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in again.state_dict().items())


def test_a_checkpoint_is_read_without_running_code(net, context, tmp_path):
    import hashlib
    import io
    import pickle

    class Evil:
        def __reduce__(self):
            return (os._exit, (1,))

    memory = io.BytesIO()
    torch.save({"fingerprint": Evil()}, memory, pickle_module=pickle)
    content = memory.getvalue()
    (tmp_path / NAME).write_bytes(hashlib.sha256(content).digest() + content)
    notes = []
    context = replace(context, scratch=tmp_path, note=notes.append)
    assert len(Training(epochs=1).run(net, context)) == 1
    assert "is damaged" in notes[0]["message"]


def test_checkpoints_keep_their_distance(net, context, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "INTERVAL", 3600.0)
    with pytest.raises(KilledError):
        Training(epochs=3, batch=8).run(
            copy.deepcopy(net), replace(context, scratch=tmp_path), each_step=dying_at(9)
        )
    assert not list(tmp_path.iterdir())
    Training(epochs=3, batch=8).run(net, replace(context, scratch=tmp_path))
    assert (tmp_path / NAME).is_file()


def test_a_folder_that_cannot_be_made_is_an_error(net, context, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="a file stands where a directory must be"):
        Training(epochs=1).run(net, replace(context, scratch=tmp_path / "file" / "step"))


def start(folder, result):
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), str(result)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_a_killed_process_goes_on_where_it_was(tmp_path):
    whole = start("none", tmp_path / "whole")
    whole.communicate()
    folder = tmp_path / "step"
    told = []
    for limit in (7, 25):
        process = start(folder, tmp_path / "torn")
        for line in process.stdout:
            if int(line) >= limit:
                process.send_signal(signal.SIGKILL)
                break
            told.append(int(line))
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
    last = start(folder, tmp_path / "torn")
    last.communicate()
    assert last.returncode == 0
    assert max(told) == 24
    expected = torch.load(tmp_path / "whole", weights_only=True)
    got = torch.load(tmp_path / "torn", weights_only=True)
    assert got["history"] == expected["history"]
    assert all(torch.equal(v, expected["model"][k]) for k, v in got["model"].items())
