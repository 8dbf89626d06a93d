"""Training whose next batches a thread makes meanwhile, as it is done for a GPU."""

import copy
import threading

import pytest
import torch

from shrinkproof.training import loop
from shrinkproof.training.settings import Training

SETTINGS = Training(epochs=3, batch=8, learning_rate=0.05, augment=("crop", "flip"))


@pytest.fixture
def beside_the_cpu(monkeypatch):
    """Let the network run as if it were on another device."""
    monkeypatch.setattr(loop._Run, "reads_ahead", property(lambda run: True))


def readers():
    return [thread for thread in threading.enumerate() if "read-ahead" in thread.name]


def test_on_the_cpu_nothing_is_read_ahead(net, context):
    threads = []
    SETTINGS.run(net, context, each_step=lambda *of: threads.extend(readers()))
    assert threads == []


def test_weights_are_the_same_bit_for_bit(net, context, request):
    plain, twin = copy.deepcopy(net), copy.deepcopy(net)
    SETTINGS.run(plain, context)
    request.getfixturevalue("beside_the_cpu")
    threads = []
    SETTINGS.run(twin, context, each_step=lambda *of: threads.extend(readers()))
    assert threads
    expected = plain.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in twin.state_dict().items())
    assert readers() == []


@pytest.mark.usefixtures("beside_the_cpu")
def test_an_error_in_the_middle_ends_the_thread(net, context):
    def fail(done, steps):
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        SETTINGS.run(net, context, each_step=fail)
    assert readers() == []
