"""How often a certificate is false, and how often it is given: simulations with known risks.

    python benchmarks/certificate.py                the tables of docs/certificate.md
    python benchmarks/certificate.py --runs 10000   the same with less noise
    python benchmarks/certificate.py --correlation DIR   how correlated a run's conditions are

Every false rate is the share of runs that certify a promise that is broken: the true risk is
exactly at the limit, where it is hardest to keep the 5 %. Images are drawn with a difficulty
of their own, so that errors of one image under several conditions, or of several candidates on one
image, are correlated.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

if __name__ == "__main__":  # before numpy comes; who imports this keeps its own setting
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtri

from shrinkproof.decision.certificate import chain_certified, holm_certified, intersection_p
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.statistics import (
    RiskMethod,
    binomial_p,
    independent_units,
    risk_test,
    units_needed,
)
from shrinkproof.store import Store

# Shape suffixes: S runs, N images or units, C conditions, M candidates.

ERROR = 0.05
CONDITIONS = 75
MEASURED = 0.25
"""Correlation of errors of one image under 75 conditions: 0.23 to 0.29 in docs/evidence.md."""

FRACTIONAL: tuple[RiskMethod, ...] = ("hoeffding-bentkus", "betting")
"""Tests of losses between right and wrong."""

Rates = dict[str, float]


def rate(p_values: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the share of p-values that certify."""
    return float((np.asarray(p_values) <= ERROR).mean())


def noise(share: float, runs: int) -> float:
    """Return the standard error of a simulated share."""
    return math.sqrt(share * (1 - share) / runs)


def difficult(
    draws: np.random.Generator, risk: float, correlation: float, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return each image's probability of being wrong: Beta, with this mean and correlation."""
    strength = 1 / correlation - 1
    return draws.beta(risk * strength, (1 - risk) * strength, shape)


def related(
    draws: np.random.Generator, risk: NDArray[np.float64], correlation: float, count: int
) -> NDArray[np.bool_]:
    """Return errors of one image in several columns, (N, K), by a shared normal difficulty.

    Args:
        draws: random numbers.
        risk: (K,) probability of an error in each column.
        correlation: of the normal variables behind two columns of one image.
        count: number of images, N.
    """
    shared = math.sqrt(correlation) * draws.standard_normal((count, 1), dtype=np.float32)
    own = draws.standard_normal((count, len(risk)), dtype=np.float32)
    return np.asarray(shared + math.sqrt(1 - correlation) * own < ndtri(risk).astype(np.float32))


def pooled(correlation: float, runs: int, *, count: int = 1_000, risk: float = 0.2) -> Rates:
    """Certify a mean over 75 conditions at its limit: pairs as trials, or images as units."""
    draws = np.random.default_rng(1)
    found: dict[str, list[float]] = {"pooled pairs": [], "hoeffding-bentkus": [], "betting": []}
    for _ in range(runs):
        chance_N = difficult(draws, risk, correlation, (count,))
        wrong_N = draws.binomial(CONDITIONS, chance_N)
        found["pooled pairs"].append(binomial_p(int(wrong_N.sum()), CONDITIONS * count, risk))
        for method in FRACTIONAL:
            found[method].append(risk_test(wrong_N / CONDITIONS, risk, method=method).p)
    return {name: rate(p) for name, p in found.items()}


def every_condition(at_limit: int, runs: int, *, count: int = 1_000, limit: float = 0.2) -> Rates:
    """Certify every one of 75 conditions, of which some are at the limit and the others at half."""
    draws = np.random.default_rng(2)
    risk_C = np.where(np.arange(CONDITIONS) < at_limit, limit, limit / 2)
    every, first = [], []
    for _ in range(runs):
        wrong_C = related(draws, risk_C, 0.5, count).sum(axis=0)
        p_C = bdtr(wrong_C, count, limit)
        every.append(intersection_p(p_C.tolist()))
        first.append(float(p_C[0]))
    return {"one condition": rate(first), "every condition": rate(every)}


def candidates(
    runs: int,
    *,
    correlation: float = 0.8,
    count: int = 1_000,
    limit: float = 0.2,
    many: int = 20,
    good: int = 0,
) -> Rates:
    """Certify any of 20 correlated candidates at the limit: alone, by Holm, by 4 chains.

    Args:
        runs: number of simulated data sets.
        correlation: of the normal variables behind two candidates on one image.
        count: number of images.
        limit: the promise, and the true risk of every bad candidate.
        many: number of candidates.
        good: how many of them are truly at three quarters of the limit, first in their chains.
    """
    draws = np.random.default_rng(3)
    risk_M = np.where(np.arange(many) < good, 0.75 * limit, limit)
    labels = [str(number) for number in range(many)]
    chains = [labels[start::4] for start in range(4)]
    bad = set(labels[good:])
    false, power = {"uncorrected": 0, "holm": 0, "chains": 0}, {"holm": 0, "chains": 0}
    for _ in range(runs):
        wrong_M = related(draws, risk_M, correlation, count).sum(axis=0)
        p = dict(zip(labels, bdtr(wrong_M, count, limit).tolist(), strict=True))
        tests = {"holm": holm_certified(p, ERROR), "chains": chain_certified(p, chains, ERROR)}
        false["uncorrected"] += any(p[label] <= ERROR for label in bad)
        for name, test in tests.items():
            false[name] += not bad.isdisjoint(test.certified)
            power[name] += len(set(test.certified) - bad)
    rates = {f"{name}, any false": share / runs for name, share in false.items()}
    if good:
        rates |= {f"{name}, power": share / runs / good for name, share in power.items()}
    return rates


def grouped(runs: int, *, groups: int = 300, limit: float = 0.2) -> Rates:
    """Certify a mean over groups of 1 to 200 images at its limit: images or groups as units."""
    draws = np.random.default_rng(4)
    found: dict[str, list[float]] = {"images": [], "hoeffding-bentkus": [], "betting": []}
    for _ in range(runs):
        sizes = np.clip(draws.lognormal(2, 1.2, groups).astype(int), 1, 200)
        group_N = np.repeat(np.arange(groups), sizes)
        wrong_N = draws.random(len(group_N)) < difficult(draws, limit, 0.3, (groups,))[group_N]
        found["images"].append(binomial_p(int(wrong_N.sum()), len(wrong_N), limit))
        losses_U = independent_units(wrong_N, group_N)
        for method in FRACTIONAL:
            found[method].append(risk_test(losses_U, limit, method=method).p)
    return {name: rate(p) for name, p in found.items()}


def binary_losses(
    draws: np.random.Generator, risk: float, _spread: float, count: int
) -> NDArray[np.bool_]:
    """Return right and wrong, (N,); their spread follows from the risk."""
    return draws.random(count) < risk


def mean_losses(
    draws: np.random.Generator, risk: float, spread: float, count: int
) -> NDArray[np.float64]:
    """Return each image's mean error over 75 conditions, (N,); ``spread`` is their correlation."""
    return draws.binomial(CONDITIONS, difficult(draws, risk, spread, (count,))) / CONDITIONS


def signed_losses(
    draws: np.random.Generator, risk: float, spread: float, count: int
) -> NDArray[np.float64]:
    """Return errors minus the baseline's, (N,); ``spread`` is the share of changed images."""
    luck_N = draws.random(count)
    lost_N = luck_N < (spread + risk) / 2
    return lost_N.astype(float) - ((luck_N < spread) & ~lost_N)


Losses = Callable[[np.random.Generator, float, float, int], NDArray[np.generic]]

KINDS: Mapping[str, tuple[Losses, float, float]] = {
    "right or wrong": (binary_losses, 0.0, 0.0),
    "mean of 75 conditions": (mean_losses, MEASURED, 0.0),
    "excess, 3 % changed": (signed_losses, 0.03, -1.0),
    "excess, 15 % changed": (signed_losses, 0.15, -1.0),
}
"""Kind of loss -> how it is drawn, its spread, and its smallest value."""


def certified(
    kind: str,
    risk: float,
    limit: float,
    runs: int,
    *,
    count: int = 1_000,
    methods: Sequence[RiskMethod] = ("binomial", *FRACTIONAL),
    error: float = ERROR,
) -> Rates:
    """Return how often each method certifies a loss of this kind with this true risk."""
    draw, spread, low = KINDS[kind]
    draws = np.random.default_rng(5)
    found: dict[RiskMethod, list[float]] = {
        name: [] for name in methods if name != "binomial" or draw is binary_losses
    }
    for _ in range(runs):
        losses_U = draw(draws, risk, spread, count)
        for method in found:
            found[method].append(risk_test(losses_U, limit, low=low, method=method, error=error).p)
    return {str(name): float((np.asarray(p) <= error).mean()) for name, p in found.items()}


def deviation(kind: str, risk: float) -> float:
    """Return the standard deviation of a loss of this kind."""
    draw, spread, _ = KINDS[kind]
    return float(draw(np.random.default_rng(6), risk, spread, 400_000).std())


PLANS: Sequence[tuple[str, float, float, RiskMethod, float]] = (
    ("right or wrong", 0.15, 0.20, "binomial", ERROR),
    ("right or wrong", 0.15, 0.20, "binomial", ERROR / 20),
    ("right or wrong", 0.01, 0.03, "binomial", ERROR),
    ("mean of 75 conditions", 0.15, 0.20, "hoeffding-bentkus", ERROR),
    ("mean of 75 conditions", 0.15, 0.20, "betting", ERROR),
    ("mean of 75 conditions", 0.15, 0.20, "betting", ERROR / 20),
    ("excess, 3 % changed", 0.00, 0.02, "betting", ERROR),
    ("excess, 15 % changed", 0.00, 0.02, "betting", ERROR),
)
"""Kind of loss, true risk, limit, method, error."""


def planned(
    kind: str, risk: float, limit: float, method: RiskMethod, error: float, runs: int
) -> tuple[int, float]:
    """Return the units that a power of 80 % needs, and how often they certify."""
    sd = None if method == "binomial" else deviation(kind, risk)
    low = KINDS[kind][2]
    needed = units_needed(risk, limit, sd=sd, low=low, method=method, error=error)
    if needed is None:
        raise ValueError(f"{kind}: a risk of {risk} is never certified below {limit}")
    found = certified(kind, risk, limit, runs, count=needed, methods=(method,), error=error)
    return needed, found[method]


def correlations(folder: Path) -> list[tuple[str, int, float]]:
    """Return label, number of conditions and correlation of each candidate's errors of one image.

    The correlation r is that of the variance of an image's mean error: with C conditions and mean
    error m it is m (1 - m) (1 + (C - 1) r) / C.
    """
    store = Store.open(folder)
    wrong: dict[str, list[NDArray[np.bool_]]] = {}
    for key in sorted(store.finished()):
        shard = store.read_cell(key)
        shown = store.read_predictions(key)
        if shard is None or not isinstance(shown, ClassificationPredictions):
            continue
        cell = shard.cell
        if cell.split == "report" and cell.form == "artifact" and not cell.condition.is_clean:
            wrong.setdefault(cell.candidate, []).append(shown.prediction() != shown.target)
    found = []
    for label, rows in sorted(wrong.items()):
        mean_N = np.mean(rows, axis=0)
        risk = float(mean_N.mean())
        if len(rows) > 1 and 0 < risk < 1:
            share = len(rows) * float(mean_N.var()) / (risk * (1 - risk))
            found.append((label, len(rows), (share - 1) / (len(rows) - 1)))
    return found


def show(title: str, rows: Mapping[str, Rates]) -> None:
    """Print one table, in percent."""
    columns = list(dict.fromkeys(name for rates in rows.values() for name in rates))
    widths = [max(9, len(name)) for name in columns]
    first = max(len(name) for name in rows)
    print(f"\n{title}\n")
    print(" " * first, *(f"{name:>{w}}" for name, w in zip(columns, widths, strict=True)), sep="  ")
    for name, rates in rows.items():
        cells = [f"{100 * rates[c]:.1f} %" if c in rates else "" for c in columns]
        print(
            f"{name:{first}}", *(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True)), sep="  "
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Simulate certificates with known risks.")
    parser.add_argument("--runs", type=int, default=2_000, help="simulated data sets per number")
    parser.add_argument("--correlation", type=Path, help="run directory; measure it and stop")
    arguments = parser.parse_args()
    if arguments.correlation:
        for label, conditions, correlation in correlations(arguments.correlation):
            print(f"{label}  {conditions} conditions  correlation {correlation:.2f}")
        return
    runs = arguments.runs
    print(
        f"{runs:,} runs per number, promised error {100 * ERROR:.0f} %, standard error of a rate "
        f"of 5 %: {100 * noise(ERROR, runs):.1f} points"
    )
    show(
        "False: mean over 75 conditions at the limit of 20 %, 1,000 images, by correlation of the "
        "conditions",
        {f"{c:.2f}": pooled(c, runs) for c in (0.1, MEASURED, 0.4, 0.55, 0.75)},
    )
    show(
        "False: every one of 75 conditions at most 20 %; so many at the limit, the others at 10 %",
        {str(many): every_condition(many, runs) for many in (1, 5, CONDITIONS)},
    )
    show(
        "False: any of 20 candidates at the limit of 20 %, 1,000 images, by correlation; then 8 of "
        "them at 15 %",
        {f"{c:.2f}": candidates(runs, correlation=c) for c in (0.0, 0.5, 0.8, 0.95)}
        | {"0.80, 8 good": candidates(runs, good=8)},
    )
    show(
        "False: mean over 300 groups of 1 to 200 images at the limit of 20 %",
        {"": grouped(runs)},
    )
    show(
        "False: each kind of loss at its limit, 1,000 units",
        {
            kind: certified(kind, limit, limit, runs)
            for kind, limit in zip(KINDS, (0.2, 0.2, 0.02, 0.02), strict=True)
        },
    )
    show(
        "Power, 3,000 units: right or wrong and means 18 % below 20 %, excess none below 2 points",
        {
            kind: certified(kind, risk, limit, runs // 4, count=3_000)
            for kind, risk, limit in zip(
                KINDS, (0.18, 0.18, 0.0, 0.0), (0.2, 0.2, 0.02, 0.02), strict=True
            )
        },
    )
    print("\nPower with the units that `units_needed` plans for 80 %\n")
    for kind, risk, limit, method, error in PLANS:
        needed, power = planned(kind, risk, limit, method, error, runs // 2)
        print(
            f"{kind:22}{100 * risk:4.0f} % below {100 * limit:3.0f} %  "
            f"error {100 * error:5.4g} %  {method:18} {needed:6,} units: {100 * power:.1f} %"
        )


if __name__ == "__main__":
    main()
