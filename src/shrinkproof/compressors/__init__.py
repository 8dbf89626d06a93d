"""Registry of the steps that make a model smaller or let it recover."""

from __future__ import annotations

from shrinkproof.registry import Registry

COMPRESSORS = Registry(
    "compressor",
    "shrinkproof.compressors",
    {
        "cluster": "shrinkproof.compressors.cluster:Clustering",
        "finetune": "shrinkproof.compressors.finetune:FineTuning",
        "finetune.until": "shrinkproof.compressors.partial:PartialTraining",
        "fold": "shrinkproof.compressors.fold:Fold",
        "prune.channels": "shrinkproof.compressors.channels:ChannelPruning",
        "prune.weights": "shrinkproof.compressors.weights:WeightPruning",
        "quantize.qat": "shrinkproof.compressors.qat:QuantizationAwareTraining",
        "quantize.static": "shrinkproof.compressors.quantize:StaticQuantization",
        "quantize.weights": "shrinkproof.compressors.weight_only:WeightQuantization",
        "recalibrate": "shrinkproof.compressors.recalibrate:Recalibration",
        "reinitialize": "shrinkproof.compressors.reinitialize:Reinitialization",
    },
)
