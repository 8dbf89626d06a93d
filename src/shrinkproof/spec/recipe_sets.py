"""Named sets of recipes: one line of a study file for a whole published comparison."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

from pydantic import Field

from shrinkproof.compressors.layers import Scope
from shrinkproof.records import Json
from shrinkproof.registry import OpenFraction, component, fields_of
from shrinkproof.training.settings import Training

Steps = tuple[dict[str, Json], ...]


@component
class SixteenVariants:
    """Pruning, clustering and quantization, alone and in all combinations, float and 8-bit.

    Pruning (P), clustering (C), both (PC), and each of them with quantization-aware training (QAT,
    PQAT, CQAT, PCQAT), each in floating point and with 8-bit integers, the original included:
    sixteen variants (da Silva et al. 2025, arXiv:2512.24971). The original in floating point is
    the study's baseline; the floating-point forms of the four QAT variants are the simulated twins
    of their 8-bit files, so eleven recipes make the other fifteen.

    Unlike in the publication, batch norms are folded before clustering, because folding afterwards
    would multiply the few shared values of a tensor into as many as it has channels.

    Attributes:
        ratio: fraction of each weight tensor that is pruned.
        levels: shared values of each weight tensor, 2 to 256.
        layers: what is pruned and clustered: ``conv+linear``, or ``full-conv+linear`` to leave
            depthwise kernels alone, as the publication does.
        finetune: training while pruning and after clustering.
        qat: quantization-aware training; like ``finetune`` where it is left out.
    """

    name: ClassVar[str] = "sixteen-variants"

    ratio: OpenFraction = 0.5
    levels: Annotated[int, Field(ge=2, le=256)] = 16
    layers: Scope = "conv+linear"
    finetune: Training
    qat: Training | None = None

    def recipes(self) -> dict[str, Steps]:
        """Return variant -> its steps, as a study file would write them."""
        tune = fields_of(self.finetune)
        prune: Steps = (
            _step(
                "prune.weights",
                ratio=self.ratio,
                scope="layer",
                layers=self.layers,
                schedule="constant",
                finetune=tune,
            ),
        )
        cluster: Steps = (
            _step("fold"),
            _step("cluster", levels=self.levels, initialization="kmeans++", layers=self.layers),
            _step("finetune", **tune),
        )
        integers: Steps = (_step("quantize.static"),)
        aware: Steps = (_step("quantize.qat", finetune=fields_of(self.qat or self.finetune)),)
        forms = {"prune": prune, "cluster": cluster, "prune+cluster": prune + cluster}
        found = {"int8": integers}
        for name, steps in forms.items():
            found |= {name: steps, f"{name}+int8": steps + integers}
        found["qat"] = aware
        letters = {"prune": "p", "cluster": "c", "prune+cluster": "pc"}
        return found | {f"{letters[n]}qat": steps + aware for n, steps in forms.items()}


RECIPE_SETS: Final[dict[str, Any]] = {SixteenVariants.name: SixteenVariants}
"""Every named set of recipes."""


def _step(name: str, **settings: Any) -> dict[str, Json]:
    return {name: settings}
