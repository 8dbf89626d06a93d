"""Conformance of compressors and criteria."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import pydantic

from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.criteria import CHANNEL_CRITERIA, CRITERIA
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.errors import CompressionError
from shrinkproof.protocols import Context, Needs, Role
from shrinkproof.records import Change
from shrinkproof.registry import Registry, fields_of
from shrinkproof.testing.component import check_component, example_settings, refuses
from shrinkproof.testing.toys import tiny_context, tiny_images, tiny_model

if TYPE_CHECKING:
    from torch import Tensor, nn

_RATIOS: Final = (0.3, 0.7)


def check_compressor(cls: type[Any], **settings: Any) -> None:
    """Check one step of a recipe on a tiny model.

    It validates its settings, leaves the caller's model alone, gives the same bytes for the same
    random streams, needs no more than it declares, keeps the form of the output, tells what it did
    as plain JSON, and `restore` rebuilds the structure that its saved weights fit into. Where it
    has a field ``ratio``, a larger ratio removes no less.

    Args:
        cls: the class.
        settings: values of its fields; required ones that are left out are guessed.

    Raises:
        AssertionError: a rule is broken; the sentence names the class and the rule.
    """
    settings = example_settings(cls, **settings)
    step = check_component(cls, settings, COMPRESSORS, ())
    name = cls.__name__
    assert isinstance(cls.role, Role), f"{name}: role must be a Role, got {cls.role!r}"
    assert isinstance(step.needs, Needs), f"{name}: needs must be a Needs, got {step.needs!r}"
    model = tiny_model().train()
    before = _snapshot(model)
    module, change = _applied(step, model, seed=0)
    assert _snapshot(model) == before, f"{name}: the caller's model must stay untouched"
    _check_change(name, step, change)
    _check_outputs(name, model, module)
    again, _ = _applied(step, tiny_model(), seed=0)
    assert _bytes(again) == _bytes(module), f"{name}: the same streams must give the same bytes"
    _check_restore(cls, change, module)
    _check_needs(name, step)
    if any(field.name == "ratio" for field in dataclasses.fields(cls)):
        _check_ratio(cls, settings)


def _applied(step: Any, model: nn.Module, *, seed: int) -> tuple[nn.Module, Change]:
    """Run one step with nothing in the context but what it declares."""
    context = tiny_context(tiny_images(), seed=seed, needs=step.needs)
    module, (change,) = Recipe((step,)).apply(model, context)
    return module, change


def _bytes(module: nn.Module) -> dict[str, bytes]:
    return {k: v.detach().numpy().tobytes() for k, v in module.state_dict().items()}


def _snapshot(model: nn.Module) -> object:
    modes = {name: module.training for name, module in model.named_modules()}
    frozen = {name: p.requires_grad for name, p in model.named_parameters()}
    return _bytes(model), modes, frozen


def _check_change(name: str, step: Any, change: Change) -> None:
    assert isinstance(change, Change), f"{name}: apply must return a Change, got {change!r}"
    expected = (step.name, step.version, fields_of(step))
    got = (change.step, change.version, change.fields)
    assert got == expected, f"{name}: its change must carry {expected}, got {got}"
    plain = json.loads(json.dumps(change.as_json(), allow_nan=False))
    assert Change.from_json(plain) == change, f"{name}: its change must be plain JSON"


def _check_outputs(name: str, model: nn.Module, module: nn.Module) -> None:
    inputs = _inputs()
    expected, got = _outputs(model, inputs), _outputs(module, inputs)
    assert got.shape == expected.shape, (
        f"{name}: outputs must keep their shape {tuple(expected.shape)}, got {tuple(got.shape)}"
    )
    assert bool(got.isfinite().all()), f"{name}: outputs must be finite"
    assert not any(m.training for m in module.modules()), (
        f"{name}: the model must come back in evaluation mode"
    )


def _check_restore(cls: type[Any], change: Change, module: nn.Module) -> None:
    name = cls.__name__
    change = Change.from_json(json.loads(json.dumps(change.as_json())))
    fresh = tiny_model(seed=1)
    step = pydantic.TypeAdapter(cls).validate_json(json.dumps(change.fields))
    restored = step.restore(fresh, change).eval()
    missing = set(module.state_dict()) ^ set(restored.state_dict())
    assert not missing, (
        f"{name}: restore must give the state-dict keys of apply; they differ in {sorted(missing)}"
    )
    restored.load_state_dict(module.state_dict(), strict=True)
    inputs = _inputs()
    assert _outputs(restored, inputs).equal(_outputs(module, inputs)), (
        f"{name}: a restored model with the saved weights must give the same outputs, bit for bit"
    )


def _check_needs(name: str, step: Any) -> None:
    if step.needs is Needs.NOTHING:
        return
    context = tiny_context(needs=Needs.NOTHING)
    refuses(
        lambda: step.apply(tiny_model(), context),
        CompressionError,
        f"{name}: apply without the images that it needs must raise a CompressionError",
    )


def _check_ratio(cls: type[Any], settings: dict[str, Any]) -> None:
    left = []
    for ratio in _RATIOS:
        module, _ = _applied(cls(**{**settings, "ratio": ratio}), tiny_model(), seed=0)
        left.append(sum(int(p.count_nonzero()) for p in module.parameters()))
    assert left[0] >= left[1], (
        f"{cls.__name__}: a larger ratio must remove no less; {_RATIOS} left {left} parameters"
    )


def _inputs() -> Tensor:
    context: Context = tiny_context(tiny_images(count=6, seed=1))
    assert context.training is not None, "the tiny context is complete unless told otherwise"
    inputs, _ = next(context.training.batches(6))
    return inputs


def _outputs(module: nn.Module, inputs: Tensor) -> Tensor:
    import torch

    module = copy.deepcopy(module).eval()
    with torch.no_grad():
        outputs: Tensor = module(inputs)
    return outputs


def check_criterion(cls: type[Any], **settings: Any) -> None:
    """Check what scores weights: one finite score for each, same streams, same scores.

    Args:
        cls: the class.
        settings: values of its fields; required ones that are left out are guessed.

    Raises:
        AssertionError: a rule is broken; the sentence names the class and the rule.
    """
    shapes = {
        layer: tuple(tiny_model().get_parameter(f"{layer}.weight").shape) for layer in _LAYERS
    }
    _check_scores(cls, settings, CRITERIA, shapes)


def check_channel_criterion(cls: type[Any], **settings: Any) -> None:
    """Check what scores channels: one finite score >= 0 for each, same streams, same scores.

    Args:
        cls: the class.
        settings: values of its fields; required ones that are left out are guessed.

    Raises:
        AssertionError: a rule is broken; the sentence names the class and the rule.
    """
    shapes = {layer: shape[:1] for layer, shape in _weight_shapes().items()}
    criterion, scores = _check_scores(cls, settings, CHANNEL_CRITERIA, shapes)
    name = cls.__name__
    assert isinstance(criterion.comparable, bool), f"{name}: comparable must be True or False"
    assert all(bool((s >= 0).all()) for s in scores.values()), f"{name}: scores must be >= 0"


_LAYERS: Final = ("0", "4")
"""The convolutions of `tiny_model`."""


def _weight_shapes() -> dict[str, tuple[int, ...]]:
    model = tiny_model()
    return {layer: tuple(model.get_parameter(f"{layer}.weight").shape) for layer in _LAYERS}


def _check_scores(
    cls: type[Any], settings: dict[str, Any], registry: Registry, shapes: Mapping[str, Any]
) -> tuple[Any, Mapping[str, Tensor]]:
    settings = example_settings(cls, **settings)
    criterion = check_component(cls, settings, registry, ("Input", "Output", "Reference"))
    name = cls.__name__
    assert isinstance(criterion.needs, Needs), f"{name}: needs must be a Needs"
    model = tiny_model()
    before = _snapshot(model)
    context = tiny_context(needs=criterion.needs)
    first = criterion.scores(model, _LAYERS, context)
    got = {layer: tuple(score.shape) for layer, score in first.items()}
    assert got == shapes, f"{name}: scores must have the shapes {shapes}, got {got}"
    assert all(bool(s.isfinite().all()) for s in first.values()), f"{name}: scores must be finite"
    assert _snapshot(model) == before, f"{name}: the model must stay untouched"
    assert all(p.grad is None for p in model.parameters()), f"{name}: must leave no gradients"
    second = criterion.scores(model, _LAYERS, tiny_context(needs=criterion.needs))
    assert all(first[k].equal(second[k]) for k in first), (
        f"{name}: the same streams must give the same scores"
    )
    if criterion.needs is not Needs.NOTHING:
        refuses(
            lambda: criterion.scores(model, _LAYERS, tiny_context(needs=Needs.NOTHING)),
            CompressionError,
            f"{name}: without the images that it needs it must raise a CompressionError",
        )
    return criterion, first
