"""Who is certified: several tests of one candidate, and several candidates at once.

Within one candidate nothing is corrected: every test must succeed. Over candidates the probability
that *any* of the certified ones breaks its promise is kept at the error, whatever the dependence
between candidates that are measured on the same images.

Reference: Angelopoulos et al. 2021, "Learn then Test", arXiv:2110.01052.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from shrinkproof.errors import UsageError
from shrinkproof.statistics import holm


@dataclass(frozen=True, slots=True)
class FamilyTest(Mapping[str, float]):
    """Adjusted p-values of a family of candidates, by label, and who is certified.

    Attributes:
        adjusted: label -> adjusted p-value, 0 to 1, in the caller's order.
        error: error of the whole family.
    """

    adjusted: Mapping[str, float]
    error: float

    @property
    def certified(self) -> tuple[str, ...]:
        """Labels whose adjusted p-value is at most the error, in the caller's order."""
        return tuple(label for label, p in self.adjusted.items() if p <= self.error)

    def __getitem__(self, label: str) -> float:
        """Return the adjusted p-value of a candidate."""
        return self.adjusted[label]

    def __iter__(self) -> Iterator[str]:
        """Return the labels."""
        return iter(self.adjusted)

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.adjusted)


def intersection_p(p_values: Iterable[float]) -> float:
    """Return the p-value of "at least one promise is broken": the largest one.

    For a promise about *every* condition, and for several promises of one candidate. No correction
    is needed: to certify falsely, the test of a promise that is truly broken must fail, and that
    test alone does so with probability at most the error (intersection-union test, Berger 1982,
    doi:10.1080/00401706.1982.10487790).

    Raises:
        UsageError: there is no p-value, or one is not in [0, 1].
    """
    return max(_checked(dict(enumerate(p_values)), "promise"))


def holm_certified(p: Mapping[str, float], error: float = 0.05) -> FamilyTest:
    """Return who is certified by Holm's procedure, whatever the dependence of the tests.

    Every candidate that was going to be tested stays in the family: one whose measurement failed
    has a p-value of 1. Taking it out would choose the family by looking.

    Args:
        p: label -> p-value of "this candidate breaks its promises".
        error: probability that any certified candidate breaks them, at most.

    Raises:
        UsageError: there is no candidate, a p-value is not in [0, 1], or the error not in (0, 1).

    Reference: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    _check_error(error)
    adjusted = holm(_checked(p, "candidate")).tolist()
    return FamilyTest(dict(zip(p, adjusted, strict=True)), error)


def chain_certified(
    p: Mapping[str, float], chains: Sequence[Sequence[str]], error: float = 0.05
) -> FamilyTest:
    """Return who is certified by testing chains of candidates, each in a fixed order.

    Each chain gets an equal share of the error and stops at its first failure; within a chain
    nothing is corrected, because a chain certifies falsely only if the test of its first candidate
    that breaks a promise fails. Adjusted: the number of chains times the largest p-value so far.
    Chains and their order must be fixed without the images of the test: on other images, or
    by what is known of the recipes.

    Args:
        p: label -> p-value of "this candidate breaks its promises".
        chains: labels of each chain, the surest candidate first; each label in exactly one chain.
        error: probability that any certified candidate breaks its promises, at most.

    Raises:
        UsageError: a label is missing, unknown or in two places, a chain is empty, a p-value is not
            in [0, 1], or the error not in (0, 1).

    Reference: Angelopoulos et al. 2021, arXiv:2110.01052, section 3 (fixed sequence testing with
    several starts).
    """
    _check_error(error)
    _checked(p, "candidate")
    _check_chains(p, chains)
    found = {}
    for chain in chains:
        largest = 0.0
        for label in chain:
            largest = max(largest, p[label])
            found[label] = min(1.0, len(chains) * largest)
    return FamilyTest({label: found[label] for label in p}, error)


def _checked(p: Mapping[str, float] | Mapping[int, float], noun: str) -> list[float]:
    if not p:
        raise UsageError(f"certificate: must have at least one {noun}, got none; name one to test")
    for label, value in p.items():
        if not 0 <= value <= 1:
            raise UsageError(
                f"certificate: the p-value of {label} must be between 0 and 1, got {value}; a "
                f"{noun} that could not be tested has 1"
            )
    return list(p.values())


def _check_chains(p: Mapping[str, float], chains: Sequence[Sequence[str]]) -> None:
    if not all(chains):
        raise UsageError("chains: each must have at least one candidate, got an empty one")
    labels = [label for chain in chains for label in chain]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise UsageError(
            f"chains: each candidate must stand in one place, got {', '.join(twice)} more than once"
        )
    strange = sorted(set(labels) ^ set(p))
    if strange:
        raise UsageError(
            "chains: must have exactly the candidates that have a p-value, got "
            f"{', '.join(strange)} in only one of both"
        )


def _check_error(error: float) -> None:
    if not 0 < error < 1 or math.isnan(error):
        raise UsageError(f"certificate: error must be between 0 and 1, got {error}")
