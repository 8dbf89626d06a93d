"""Uncertainty of numbers: resampled data sets, intervals, tests and ranks.

A metric gives its per-image terms, one seeded matrix of weights stands for the resampled data sets,
and their matrix product gives all replicates. The matrix depends on the data set only, so every
candidate, condition and metric sees the same resamples and comparisons are paired by themselves.
"""

from __future__ import annotations

from shrinkproof.statistics.hypotheses import HypothesisTest, holm, mcnemar
from shrinkproof.statistics.intervals import (
    BOOTSTRAP,
    DEVIATION,
    DEVIATION_PAIRED,
    EXACT,
    EXACT_PAIRED,
    MINIMUM_OUTCOMES,
    MINIMUM_PER_COLUMN,
    MINIMUM_UNITS,
    Interval,
    clopper_pearson,
    interval,
    intervals,
    paired_interval,
)
from shrinkproof.statistics.margins import equivalence, images_needed, noninferiority
from shrinkproof.statistics.planning import units_needed
from shrinkproof.statistics.ranks import RankTest, friedman, wilcoxon_holm, wilcoxon_signed_rank
from shrinkproof.statistics.repeats import Repeats, across_repeats
from shrinkproof.statistics.replicated import (
    Replicated,
    averaged,
    calculated,
    replicated_interval,
)
from shrinkproof.statistics.risk import RiskTest, independent_units, risk_test
from shrinkproof.statistics.tails import (
    BETTING,
    BINOMIAL,
    HOEFFDING_BENTKUS,
    RiskMethod,
    betting_p,
    binomial_p,
    hoeffding_bentkus_p,
)
from shrinkproof.statistics.terms import Kind, Terms, difference, estimate, replicates
from shrinkproof.statistics.weights import bootstrap_weights, group_count

__all__ = [
    "BETTING",
    "BINOMIAL",
    "BOOTSTRAP",
    "DEVIATION",
    "DEVIATION_PAIRED",
    "EXACT",
    "EXACT_PAIRED",
    "HOEFFDING_BENTKUS",
    "MINIMUM_OUTCOMES",
    "MINIMUM_PER_COLUMN",
    "MINIMUM_UNITS",
    "HypothesisTest",
    "Interval",
    "Kind",
    "RankTest",
    "Repeats",
    "Replicated",
    "RiskMethod",
    "RiskTest",
    "Terms",
    "across_repeats",
    "averaged",
    "betting_p",
    "binomial_p",
    "bootstrap_weights",
    "calculated",
    "clopper_pearson",
    "difference",
    "equivalence",
    "estimate",
    "friedman",
    "group_count",
    "hoeffding_bentkus_p",
    "holm",
    "images_needed",
    "independent_units",
    "interval",
    "intervals",
    "mcnemar",
    "noninferiority",
    "paired_interval",
    "replicated_interval",
    "replicates",
    "risk_test",
    "units_needed",
    "wilcoxon_holm",
    "wilcoxon_signed_rank",
]
