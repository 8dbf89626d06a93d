"""Looking into a network leaves no trace: not in it, not in memory, not in the caller's torch."""

import gc
import threading

import numpy as np
import pytest
import torch

from shrinkproof.attributions import ATTRIBUTIONS
from shrinkproof.attributions.cam import GradCam
from shrinkproof.attributions.layers import choose_layer
from shrinkproof.attributions.network import activations, is_bypassed, quiet
from shrinkproof.errors import UsageError
from shrinkproof.testing import tiny_model

from .candidate import STREAM, Candidate, images, labels

SETTINGS = {"rise": {"masks": 20}, "integrated_gradients": {"steps": 3}}
METHODS = [ATTRIBUTIONS.create(name, SETTINGS.get(name)) for name in ATTRIBUTIONS.builtin]
ids = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
INSIDE = pytest.mark.parametrize(
    "method", [m for m in METHODS if m.needs != "predictions"], ids=lambda m: m.name
)
INPUTS, TARGET = images(3), labels(0, 1, 2)


def trace_of(module):
    return (
        {k: v.numpy().tobytes() for k, v in module.state_dict().items()},
        [(p.training, len(p._forward_hooks), len(p._backward_hooks)) for p in module.modules()],
        [(p.requires_grad, p.grad) for p in module.parameters()],
    )


def test_which_maps_are_signed():
    unsigned = {m.name for m in METHODS if not m.is_signed}
    assert unsigned == {"gradcam", "gradcam_plus_plus"}
    assert GradCam(rectified=False).is_signed


@INSIDE
@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
def test_the_network_stays_as_it_was(method, mode):
    module = tiny_model().train(mode)
    module[1].eval()
    module[0].weight.requires_grad_(False)
    before = trace_of(module)
    first = method.maps(Candidate(module), INPUTS, TARGET, stream=STREAM)
    assert trace_of(module) == before
    expected = method.maps(Candidate(tiny_model()), INPUTS, TARGET, stream=STREAM)
    np.testing.assert_array_equal(first, expected)


def test_gradients_of_a_training_stay():
    module = tiny_model()
    module(torch.from_numpy(INPUTS)).sum().backward()
    before = [p.grad.clone() for p in module.parameters()]
    GradCam().maps(Candidate(module), INPUTS, TARGET, stream=STREAM)
    assert all(torch.equal(a, p.grad) for a, p in zip(before, module.parameters(), strict=True))


def test_a_failure_leaves_no_trace_either():
    module = tiny_model().train()
    before = trace_of(module)
    with pytest.raises(UsageError):
        GradCam().maps(Candidate(module, "9"), INPUTS, TARGET, stream=STREAM)
    with pytest.raises(RuntimeError, match="expected input"):
        choose_layer(module, images(1, channels=5))
    assert trace_of(module) == before
    assert torch.is_grad_enabled()


@ids
def test_a_frozen_network_has_the_same_maps(method):
    frozen = tiny_model().requires_grad_(requires_grad=False)
    expected = method.maps(Candidate(tiny_model()), INPUTS, TARGET, stream=STREAM)
    found = method.maps(Candidate(frozen), INPUTS, TARGET, stream=STREAM)
    np.testing.assert_array_equal(found, expected)


@ids
@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_callers_gradient_mode_plays_no_part(method, around):
    subject = Candidate(tiny_model())
    expected = method.maps(subject, INPUTS, TARGET, stream=STREAM)
    with around():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        found = method.maps(subject, INPUTS, TARGET, stream=STREAM)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
    np.testing.assert_array_equal(found, expected)


def test_memory_does_not_grow():
    subject = Candidate(tiny_model())

    def explain():
        for method in METHODS:
            method.maps(subject, INPUTS, TARGET, stream=STREAM)
            choose_layer(subject.module, INPUTS)

    def tensors():
        gc.collect()
        return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())

    explain()
    before = tensors()
    explain()
    assert tensors() == before


def test_threads_that_share_a_network_do_not_meet():
    module = tiny_model()
    inputs = [images(2, seed=seed) for seed in range(4)]
    target = labels(0, 1)
    expected = [GradCam().maps(Candidate(module), x, target, stream=STREAM) for x in inputs]
    found = [None] * 4

    def work(number):
        for _ in range(10):
            found[number] = GradCam().maps(Candidate(module), inputs[number], target, stream=STREAM)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(found, expected)


def test_somebody_elses_run_is_not_listened_to():
    """A run in another thread passes the hooks of ours without a trace, and without being cut."""
    module, values = tiny_model(), torch.from_numpy(INPUTS)
    expected = module(values)
    others = []

    def run_beside(*_):
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=lambda: others.append(module(values)))
            thread.start()
            thread.join()

    module[0].register_forward_hook(run_beside)
    found = activations("test", module, "6", INPUTS[:1])
    assert found.shape == (1, 8, 8, 8)
    assert not is_bypassed(module, "6", 1, INPUTS[:1])
    assert len(others) == 2
    for other in others:
        assert torch.equal(other, expected)
        assert other.requires_grad


def test_quiet_restores_the_mode_of_each_module():
    module = tiny_model().train()
    module[5].eval()
    with quiet(module):
        assert not any(part.training for part in module.modules())
        assert not torch.is_grad_enabled()
    assert [part.training for part in module] == [number != 5 for number in range(10)]
