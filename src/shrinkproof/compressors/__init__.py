"""Registry of the steps that make a model smaller or let it recover."""

from __future__ import annotations

from shrinkproof.registry import Registry

COMPRESSORS = Registry(
    "compressor",
    "shrinkproof.compressors",
    {
        "cluster": "shrinkproof.compressors.cluster:Clustering",
        "finetune": "shrinkproof.compressors.finetune:FineTuning",
        "fold": "shrinkproof.compressors.fold:Fold",
        "prune.weights": "shrinkproof.compressors.weights:WeightPruning",
        "quantize.static": "shrinkproof.compressors.quantize:StaticQuantization",
        "recalibrate": "shrinkproof.compressors.recalibrate:Recalibration",
    },
)
