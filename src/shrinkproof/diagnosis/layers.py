"""Which layers of a candidate move its predictions: each one alone, measured on images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from shrinkproof.compressors import COMPRESSORS
from shrinkproof.errors import ShrinkproofError, UsageError
from shrinkproof.records import Candidate, Condition, Json
from shrinkproof.results import Results

if TYPE_CHECKING:
    from torch import Tensor, nn

    from shrinkproof.data.imageset import ImageSet
    from shrinkproof.diagnosis.exchange import Effect
    from shrinkproof.models.loaded import LoadedModel
    from shrinkproof.study.inputs import Inputs
    from shrinkproof.study.work.workplace import Workplace

_BATCH: Final = 64
_FEWEST_ZEROS: Final = 0.05
"""Part of a layer from which on zeros are worth a word."""

_PREFERRED: Final = ("calibrate", "select", "report")
"""Splits in the order in which their images may serve."""

EXCHANGED: Final = "exchanged"
ZEROS: Final = "zeros"
CHANNELS: Final = "channels"
BYPASSED: Final = "bypassed"

_TRAINED: Final = (
    "the recipe trains: zeros and missing channels are laid over the baseline's layers without the "
    "training that repaired their damage, so their effects may exceed the candidate's"
)
_MIXED: Final = (
    "an exchanged layer mixes two trainings; layers of the baseline were not put into the candidate"
)


@dataclass(frozen=True, slots=True)
class LayerEffect:
    """What one layer alone does to the predictions.

    Attributes:
        layer: qualified name.
        what: ``weights`` or ``activations``.
        method: how it was isolated: ``exchanged`` (the baseline with this layer of the
            candidate), ``zeros`` (the baseline with the zeros of this layer), ``channels`` (the
            baseline without the channels that these layers lost together), ``bypassed`` (the
            candidate without this rounding of activations); empty where it was not.
        achieved: what compression made of it, in words.
        parameters: number of its parameters in the baseline.
        divergence: Kullback-Leibler divergence of the class probabilities from the baseline's,
            mean over the images, in nats; None where the layer was not isolated.
        agreement: fraction of the images with the baseline's top class; None likewise.
        lost: images that only the baseline gets right; None where they were not counted.
        won: images that only the trial gets right; None likewise.
        restored: divergence of the candidate from the baseline when this one layer is the
            baseline's again; None where that was not possible.
        note: why something is missing, or how to read it.
    """

    layer: str
    what: str
    method: str = ""
    achieved: str = ""
    parameters: int = 0
    divergence: float | None = None
    agreement: float | None = None
    lost: int | None = None
    won: int | None = None
    restored: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class LayerEffects:
    """The layers of a candidate, largest effect first.

    Attributes:
        split: part of the data that the images come from.
        condition: what was done to them.
        images: how many.
        divergence: divergence of the whole candidate from the baseline, in nats.
        agreement: fraction of the images with the same top class.
        lost: images that only the baseline gets right.
        won: images that only the candidate gets right.
        is_trained: whether the recipe trains; what a layer alone does is without that training.
        rows: one for each layer, and one for each rounding of activations.
        notes: how to read them.
    """

    split: str
    condition: str
    images: int
    divergence: float
    agreement: float
    lost: int
    won: int
    is_trained: bool
    rows: tuple[LayerEffect, ...]
    notes: tuple[str, ...]


def explain_layers(
    results: Results, candidate: Candidate, inputs: Inputs, *, condition: Condition, count: int
) -> LayerEffects | str:
    """Return what each layer alone does to the predictions, or why that cannot be measured.

    Args:
        results: the run.
        candidate: a compressed network of it.
        inputs: the study, with the places of data and weights.
        condition: under which the images are shown.
        count: most images to take.
    """
    try:
        return _Layers(results, candidate, inputs, condition, count).measure()
    except (ShrinkproofError, OSError) as error:
        return (
            f"the layers need the model and the images, and there is a problem: {error} Say where "
            "they are: --root NAME=PATH, and --root study=DIR for the folder of the study file."
        )


class _Layers:
    """A candidate beside its baseline, with images.

    Args:
        results: the run.
        candidate: a compressed network of it.
        inputs: the study.
        condition: under which the images are shown.
        count: most images to take.
    """

    def __init__(
        self,
        results: Results,
        candidate: Candidate,
        inputs: Inputs,
        condition: Condition,
        count: int,
    ) -> None:
        from shrinkproof.artifacts.candidate import load_candidate, read_changes
        from shrinkproof.compressors.recipe import Recipe
        from shrinkproof.diagnosis.exchange import in_same_form, weighted
        from shrinkproof.study.work.workplace import Workplace

        self.notes: list[str] = []
        self.candidate = candidate
        self.place: Workplace = Workplace(results.store.path, inputs)
        folder = results.store.candidate(candidate.key)
        self.base: LoadedModel = self.place.base(candidate.model)
        self.compressed: nn.Module = load_candidate(folder, self.base.module)
        self.reference: nn.Module = in_same_form(self.base.module, self.compressed)
        self.layers = weighted(self.reference)
        self.own = weighted(self.compressed)
        self.changes = read_changes(folder)
        self.account: Json = (results.store.read_json(_account_of(candidate)) or {}).get(
            "layers", {}
        )
        self.steps = [COMPRESSORS.create(s["name"], s["fields"]) for s in candidate.steps]
        self.is_trained = bool(Recipe(tuple(self.steps)).recovery)
        self.split, self.images, self.condition = self._images(results, condition, count)
        self.batches = list(_batches(self.images, self.base))

    def _images(
        self, results: Results, condition: Condition, count: int
    ) -> tuple[str, ImageSet, Condition]:
        """Return the images under the condition, or clean ones where it cannot be shown."""
        given = results.data["splits"]
        split = next(name for name in (*_PREFERRED, *given) if name in given)
        images = self.place.images([split])[split]
        if len(images) > count:
            at = np.linspace(0, len(images) - 1, count).astype(np.int64)
            images = images.take(np.unique(at))
        if condition.is_clean:
            return split, images, condition
        try:
            batches = self.place.inputs.world(images).batches(images, condition, _BATCH)
            shown = np.concatenate([pixels for _, pixels in batches])
        except ShrinkproofError as error:
            self.notes.append(f"clean images, as {condition} cannot be shown: {error}")
            return split, images, Condition()
        return split, replace(images, images=shown), condition

    def measure(self) -> LayerEffects:
        """Return the effects."""
        from shrinkproof.diagnosis.exchange import effects, logits_of

        reference = logits_of(self.reference, self.batches)
        alone = dict(self._alone())
        found = effects(
            self.reference, {n: parts for n, (_, parts) in alone.items()}, reference, self.batches
        )
        back = dict(self._back())
        restored = effects(self.compressed, {"": {}, **back}, reference, self.batches)
        whole = restored.pop("")
        if whole is None:
            raise UsageError(f"{self.candidate.label}: its logits are not finite on the images.")
        rows = [
            self._row(name, alone.get(name, ("", {}))[0], found.get(name), restored.get(name))
            for name in self.layers
        ]
        rows = [*self._cut(rows, reference), *self._activations(restored)]
        if self.is_trained:
            self.notes += [_TRAINED, _MIXED]
        if self.candidate.is_imitated:
            self.notes.append(
                "measured on the PyTorch form, which imitates the integer arithmetic of the file"
            )
        return LayerEffects(
            split=self.split,
            condition=str(self.condition),
            images=len(self.images),
            divergence=whole.divergence,
            agreement=whole.agreement,
            lost=whole.lost,
            won=whole.won,
            is_trained=self.is_trained,
            rows=tuple(sorted(rows, key=lambda row: -_size(row, whole.divergence))),
            notes=tuple(dict.fromkeys(self.notes)),
        )

    def _alone(self) -> Iterator[tuple[str, tuple[str, Mapping[str, nn.Module]]]]:
        """Yield how each layer gets into the baseline alone."""
        from shrinkproof.diagnosis.exchange import has_same_shape, with_zeros_of, zeros_of

        for name, layer in self.layers.items():
            other = self.own.get(name)
            if other is None or not has_same_shape(layer, other):
                continue
            if self.is_trained and zeros_of(other) > zeros_of(layer):
                yield name, (ZEROS, {name: with_zeros_of(layer, other)})
            else:
                yield name, (EXCHANGED, {name: other})

    def _back(self) -> Iterator[tuple[str, Mapping[str, nn.Module]]]:
        """Yield how each layer, or each rounding of activations, becomes the baseline's again."""
        from torch import nn

        from shrinkproof.diagnosis.exchange import has_same_shape, quantizers

        for name, layer in self.layers.items():
            other = self.own.get(name)
            if not self.is_trained and other is not None and has_same_shape(layer, other):
                yield name, {name: layer}
        for name in quantizers(self.compressed):
            yield name, {name: nn.Identity()}

    def _row(
        self, name: str, method: str, effect: Effect | None, restored: Effect | None
    ) -> LayerEffect:
        row = LayerEffect(
            name,
            "weights",
            method=method,
            achieved=self._achieved(name),
            parameters=sum(p.numel() for p in self.layers[name].parameters()),
            restored=None if restored is None else restored.divergence,
        )
        if not method:
            return replace(row, note="" if name in self.own else "is not in the candidate")
        return _with(row, effect)

    def _achieved(self, name: str) -> str:
        """Return what compression made of a layer, in words."""
        from shrinkproof.diagnosis.exchange import weight_of

        layer, other = self.layers[name], self.own.get(name)
        entry = self.account.get(name, {}).get("tensors", {}).get("weight", {})
        if other is None or not entry:
            return ""
        said = []
        before, after = (tuple(weight_of(one).shape) for one in (layer, other))
        for noun, at in (("outputs", 0), ("inputs", 1)):
            if before[at : at + 1] != after[at : at + 1]:
                said.append(f"{after[at]}/{before[at]} {noun}")
        zeros = entry["zeros"] / max(1, int(np.prod(after)))
        if zeros >= _FEWEST_ZEROS:
            said.append(f"{100 * zeros:.0f} % zeros")
        if "levels" in entry["form"]:
            said.append(f"{entry['distinct']} levels")
        elif entry["bits"] < 32:
            said.append(f"{entry['bits']} bit")
        return ", ".join(said)

    def _cut(
        self, rows: Sequence[LayerEffect], reference: Sequence[Tensor]
    ) -> Iterator[LayerEffect]:
        """Yield the rows; what lost channels together is one row, with their zeros alone."""
        from shrinkproof.diagnosis.exchange import cuts_of, effects

        changed = {row.layer: row for row in rows if not row.method and row.layer in self.own}
        found_cuts = cuts_of(self.base.module, [change.structure for change in self.changes])
        cuts = {" + ".join(cut.layers): cut for cut in found_cuts}
        trials = {name: cut.parts for name, cut in cuts.items()}
        found = effects(self.base.module, trials, reference, self.batches) if trials else {}
        for name, cut in cuts.items():
            members = [changed.pop(layer) for layer in cut.layers if layer in changed]
            row = LayerEffect(
                name,
                "weights",
                method=CHANNELS,
                achieved=f"{cut.kept}/{cut.size} channels",
                parameters=sum(member.parameters for member in members),
            )
            yield _with(row, found[name])
        yield from (row for row in rows if row.method or row.layer not in self.own)
        for row in changed.values():
            yield replace(row, note="it loses inputs alone, with the channels of layers before it")
        later = [s.name for s in self.steps if s.name.startswith(("quantize.", "cluster"))]
        if cuts and later:
            self.notes.append(
                f"what {', '.join(later)} does to layers without channels is left out"
            )

    def _activations(self, restored: Mapping[str, Effect | None]) -> Iterator[LayerEffect]:
        """Yield what the candidate becomes without each rounding of activations."""
        for name, effect in restored.items():
            if name in self.layers or effect is None:
                continue
            *_, last = name.split(".")
            bits = {str(c.layers[name]["bits"]) for c in self.changes if name in c.layers}
            yield LayerEffect(
                last,
                "activations",
                method=BYPASSED,
                achieved=f"{bits.pop()} bit" if bits else "",
                restored=effect.divergence,
            )


def _with(row: LayerEffect, effect: Effect | None) -> LayerEffect:
    if effect is None:
        return replace(row, method="", note="makes logits that are not finite")
    return replace(
        row,
        divergence=effect.divergence,
        agreement=effect.agreement,
        lost=effect.lost,
        won=effect.won,
    )


def _account_of(candidate: Candidate) -> str:
    return f"candidates/{candidate.key}/layers.json"


def _batches(images: ImageSet, base: LoadedModel) -> Iterator[tuple[Tensor, Tensor]]:
    from shrinkproof.training.feed import ImageFeed

    for inputs, target in ImageFeed(images, base.preprocess).batches(_BATCH):
        assert not isinstance(target, Sequence), "only images of one class each are explained"
        yield inputs, target


def _size(row: LayerEffect, whole: float) -> float:
    """Return how much a layer matters: alone in the baseline, or what the candidate wins back."""
    if row.divergence is not None:
        return row.divergence
    return -1.0 if row.restored is None else whole - row.restored
