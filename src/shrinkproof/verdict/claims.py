"""What a paper claims, written so that a run can be asked: effects, margins and families."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["lower", "higher"]
"""Which way a number moves, or lies, if the claim is right."""

Goal = Literal["improves", "keeps"]
"""Superiority, or non-inferiority against the margin."""

Unit = Literal["training", "image"]
"""What a claim generalizes over: other trainings of a method, or other images of one network."""

Over = Literal["mean", "every", "slope"]
"""What becomes of several levels: their mean, each of them, or the slope on the level."""

Against = Literal["original", "control"]
"""The original as the papers do, or the dense network that was trained as long."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """What the authors did; numbers are comparable only where a run did the same.

    Attributes:
        networks: as study files name them, ``cifar:vgg16_bn``.
        data: the test images, ``cifar10:test``.
        epochs: of recovery after compression; None where nobody knows.
        images: number of test images; None where nobody knows.
        runs: trainings of each network and setting.
    """

    networks: tuple[str, ...]
    data: tuple[str, ...]
    epochs: int | None = None
    images: int | None = None
    runs: int = 1


@dataclass(frozen=True, slots=True)
class Effect:
    """What a method changes in a number, and what would count.

    Attributes:
        selector: the number, as rules spell it: ``calibration.ece[bins=10]@clean``.
        method: whose candidates; a name of `methods.METHODS`.
        direction: where the number goes if the claim is right.
        goal: whether it must improve, or must not get worse by more than the margin.
        margin: with ``improves`` the smallest improvement worth the name, >= 0; with ``keeps`` the
            largest loss that counts as kept, > 0. In the unit of the number; a fraction where the
            effect is relative; per unit of the level where it is a slope.
        against: what candidates are compared with.
        over: what becomes of several levels.
        levels: which levels of the method count, both ends included.
        is_relative: the change as a fraction of what it is compared with.
        published: the published effect in the same unit and sign, ``-0.35`` for an ECE lowered by
            35 %; None where only a direction was published.
    """

    selector: str
    method: str
    direction: Direction
    goal: Goal = "improves"
    margin: float = 0.0
    against: Against = "original"
    over: Over = "mean"
    levels: tuple[float, float] = (0.0, 1.0)
    is_relative: bool = False
    published: float | None = None


@dataclass(frozen=True, slots=True)
class Joint:
    """Several effects that must all hold in the same network.

    Attributes:
        parts: the effects.
    """

    parts: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class Threshold:
    """On which side of a value a number of the original lies.

    Attributes:
        selector: the number.
        direction: ``higher`` where it must lie above the value.
        value: the published value, in the unit of the number.
        relative_to: another number of the original: then it is the relative rise from that one to
            the selector's, minus 1; empty for the number itself.
    """

    selector: str
    direction: Direction
    value: float
    relative_to: str = ""


@dataclass(frozen=True, slots=True)
class Correlation:
    """Two numbers that go together over the compressed forms of one network.

    Attributes:
        x: one number.
        y: the other.
        direction: ``higher`` where they rise together.
    """

    x: str
    y: str
    direction: Direction = "higher"


@dataclass(frozen=True, slots=True)
class Between:
    """An effect that is larger for one network of a run than for another.

    Attributes:
        effect: measured in each network.
        by: a cost of the originals; the network with most of it is compared with that with least.
    """

    effect: Effect
    by: str = "cost.macs"


@dataclass(frozen=True, slots=True)
class FormGap:
    """What the exported file loses against the PyTorch network that it was made from.

    Attributes:
        selector: the number.
        method: whose candidates; a name of `methods.METHODS`.
        direction: where the number goes if the claim is right.
        margin: the smallest difference worth the name.
    """

    selector: str
    method: str
    direction: Direction
    margin: float


@dataclass(frozen=True, slots=True)
class Front:
    """Which compressed networks no other one dominates, all networks of a run together.

    Attributes:
        objectives: number -> direction that is better.
        members: data -> published members, ``network/method``.
    """

    objectives: Mapping[str, Direction]
    members: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Table:
    """Published numbers side by side with ours.

    Attributes:
        selectors: column -> number.
        rows: (data, network, method) -> column -> published value, in the unit of the number.
    """

    selectors: Mapping[str, str]
    rows: Mapping[tuple[str, str, str], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Count:
    """How many compressed networks of a run lie on one side of a value, all networks together.

    Attributes:
        selector: the number.
        value: in the unit of the number.
        direction: ``lower`` counts those that are at most the value, ``higher`` at least.
        published: data -> how many, and of how many.
    """

    selector: str
    value: float
    direction: Direction
    published: Mapping[str, tuple[int, int]]


Test = Effect | Joint | Threshold | Correlation | Between | FormGap | Front | Table | Count


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement of a paper and how it is tested.

    Attributes:
        name: short, unique in the paper.
        says: the statement in one sentence of ours.
        published: the published number, or what stands in its place.
        where: section, figure or table.
        family: the tests of a family are corrected together (Holm), over all networks and runs.
        unit: what the claim generalizes over.
        test: decides the verdict.
        controls: what the paper lacks: the other binning, the dense control, temperatures. They
            have verdicts and a family of their own and decide nothing.
        task: what the networks do, ``classification`` or ``detection``.
        is_number: the claim is about a number itself, so it is judged only where the protocol is
            the published one.
    """

    name: str
    says: str
    published: str
    where: str
    family: str
    unit: Unit
    test: Test
    controls: tuple[Test, ...] = ()
    task: str = "classification"
    is_number: bool = False


@dataclass(frozen=True, slots=True)
class Paper:
    """A paper and its claims.

    Attributes:
        name: as the command spells it.
        title: of the paper.
        reference: arXiv number or DOI.
        protocol: what the authors did.
        claims: in the order of the paper.
        notes: what is not known of the protocol, or contradicts itself.
    """

    name: str
    title: str
    reference: str
    protocol: Protocol
    claims: tuple[Claim, ...]
    notes: tuple[str, ...] = field(default=())
