"""What training minimizes: the task's loss, a teacher's outputs, small batch-norm scales."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from shrinkproof.errors import CompressionError
from shrinkproof.protocols import Context, Target
from shrinkproof.training.settings import Training

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def batch_loss(
    settings: Training, context: Context, inputs: Tensor, outputs: Tensor, target: Target
) -> Tensor:
    """Return the loss of a batch, a scalar: labels, and the teacher where there is one.

    Args:
        settings: of the training.
        context: task and teacher.
        inputs: (n, C, H, W), what the outputs belong to.
        outputs: of the trained model.
        target: what is true of the images.

    Raises:
        CompressionError: the outputs cannot be distilled.
    """
    import torch

    hard = context.task.loss(outputs, target, label_smoothing=settings.label_smoothing)
    if settings.distill is None or context.teacher is None:
        return hard
    if isinstance(target, Sequence):
        # Outputs of detectors are boxes, too, whatever their shape is.
        raise CompressionError(
            "training: distill must be left out for detectors, whose outputs are no logits of "
            "classes, got a teacher; leave distill out"
        )
    with torch.no_grad():
        taught = context.teacher(inputs)
    soft = distillation_loss(outputs, taught, settings.distill.temperature)
    return (1 - settings.distill.weight) * hard + settings.distill.weight * soft


def moved(target: Target, device: torch.device) -> Target:
    """Return what is true of a batch on a device."""
    if isinstance(target, Sequence):
        return [{name: tensor.to(device) for name, tensor in each.items()} for each in target]
    return target.to(device)


def distillation_loss(outputs: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """Return ``T**2 * KL(softmax(taught / T) || softmax(outputs / T))``, the mean over images.

    It differs from the cross entropy of Hinton et al. 2015 (arXiv:1503.02531, section 2) by the
    entropy of the teacher, which has no gradient, and is zero where both agree.

    Args:
        outputs: (n, classes) logits that are trained.
        taught: (n, classes) logits of the teacher.
        temperature: T, > 0.

    Raises:
        CompressionError: the outputs are not logits of the same classes.
    """
    import torch
    import torch.nn.functional as F

    shapes = [tuple(x.shape) if isinstance(x, torch.Tensor) else None for x in (outputs, taught)]
    if shapes[0] != shapes[1] or shapes[0] is None or len(shapes[0]) != 2:
        raise CompressionError(
            "training: distill needs logits (n, classes) of the model and the same of its teacher, "
            f"got {' and '.join(str(s or 'no tensor') for s in shapes)}; leave distill out"
        )
    divergence = F.kl_div(
        F.log_softmax(outputs.float() / temperature, dim=1),
        F.log_softmax(taught.float() / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return temperature**2 * divergence


def scale_penalty(model: nn.Module, strength: float) -> Callable[[], None] | None:
    """Return what adds the sub-gradient of an L1 penalty to the scales of batch normalization.

    To the gradient of each scale it adds ``strength * sign(scale)``, nothing at zero (Liu et al.
    2017, arXiv:1708.06519, equation 1). Returns None for strength 0.

    Raises:
        CompressionError: no trainable scale to penalize.
    """
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    if strength == 0:
        return None
    scales = {
        id(module.weight): module.weight
        for module in model.modules()
        if isinstance(module, _BatchNorm)
        and isinstance(module.weight, torch.nn.Parameter)
        and module.weight.requires_grad
    }
    if not scales:
        raise CompressionError(
            "training: gamma_l1 needs batch normalization with trainable scales, got a model "
            "without; leave gamma_l1 out"
        )

    def penalize() -> None:
        for scale in scales.values():
            if scale.grad is not None:
                scale.grad.add_(torch.sign(scale.detach()), alpha=strength)

    return penalize
