import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from shrinkproof.errors import CompressionError
from shrinkproof.training.objective import batch_loss, distillation_loss, scale_penalty
from shrinkproof.training.settings import Distillation, Training


def softmax(logits, temperature):
    powers = np.exp(np.asarray(logits) / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def test_distillation_loss_by_hand():
    outputs, taught = [[1.0, 0.0, -1.0], [0.5, 0.5, 2.0]], [[2.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    p, q = softmax(taught, 3.0), softmax(outputs, 3.0)
    expected = 9.0 * (p * np.log(p / q)).sum(axis=1).mean()
    got = distillation_loss(torch.tensor(outputs), torch.tensor(taught), 3.0)
    assert float(got) == pytest.approx(expected, rel=1e-5)


def test_distillation_gradient_is_the_one_of_the_publication():
    # Hinton et al. 2015, equation 2: T * (q - p) for the loss T**2 * cross entropy, of one image.
    outputs = torch.tensor([[1.0, 0.0, -1.0]], requires_grad=True)
    taught = torch.tensor([[2.0, 0.0, 0.5]])
    distillation_loss(outputs, taught, 4.0).backward()
    expected = 4.0 * (softmax(outputs.detach(), 4.0) - softmax(taught, 4.0))
    assert outputs.grad.numpy() == pytest.approx(expected, rel=1e-4)


def test_distillation_of_equal_outputs_is_zero():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert float(distillation_loss(logits, logits, 2.0)) == pytest.approx(0.0, abs=1e-6)


def test_batch_loss_mixes_labels_and_teacher(net, context):
    inputs, target = next(context.training.batches(8))
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).eval().requires_grad_(False)
    context = replace(context, teacher=teacher)
    outputs = net.eval()(inputs).detach()
    hard = context.task.loss(outputs, target, label_smoothing=0.1)
    soft = distillation_loss(outputs, teacher(inputs), 2.0)
    for weight in (0.0, 0.3, 1.0):
        settings = Training(
            epochs=1, label_smoothing=0.1, distill=Distillation(weight=weight, temperature=2.0)
        )
        got = batch_loss(settings, context, inputs, outputs, target)
        assert float(got) == pytest.approx(float((1 - weight) * hard + weight * soft), rel=1e-5)


def test_student_approaches_its_teacher_which_stays(net, context):
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).eval().requires_grad_(False)
    before = copy.deepcopy(teacher.state_dict())
    context = replace(context, teacher=teacher)
    settings = Training(epochs=15, learning_rate=0.05, batch=8, distill=Distillation(weight=1.0))
    history = settings.run(net, context)
    assert history[-1]["loss"] < 0.2 * history[0]["loss"]
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())


def test_missing_or_unfit_teacher_is_named(net, context):
    settings = Training(epochs=1, distill=Distillation())
    with pytest.raises(CompressionError, match="needs a teacher to distill from, got none"):
        settings.run(net, context)
    other = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval()
    with pytest.raises(CompressionError, match=r"got \(33, 2\) and \(33, 3\); leave distill out"):
        settings.run(net, replace(context, teacher=other))


def test_penalty_adds_the_sign_of_each_scale(net):
    norm = net[1]
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, -2.0, 0.0, 1e-3]))
    norm.weight.grad = torch.tensor([1.0, 1.0, 1.0, 1.0])
    norm.bias.grad = torch.zeros(4)
    scale_penalty(net, 0.25)()
    assert norm.weight.grad.tolist() == [1.25, 0.75, 1.0, 1.25]
    assert norm.bias.grad.tolist() == [0.0] * 4


def test_penalty_shrinks_scales(net, context):
    plain, sparse = copy.deepcopy(net), copy.deepcopy(net)
    for model, strength in ((plain, 0.0), (sparse, 0.5)):
        settings = Training(epochs=8, batch=8, learning_rate=0.03, gamma_l1=strength)
        settings.run(model, context)
    assert sparse[1].weight.abs().sum() < 0.5 * plain[1].weight.abs().sum()


def test_penalty_without_batch_norm_is_an_error(net):
    assert scale_penalty(net, 0.0) is None
    net[1].weight.requires_grad_(False)
    with pytest.raises(CompressionError, match="gamma_l1 needs batch normalization"):
        scale_penalty(net, 0.1)
