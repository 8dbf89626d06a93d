"""All sections of evidence of one page, as the template prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shrinkproof.report import (
    across,
    boxes,
    calibrated,
    control,
    corrected,
    looks,
    potential,
    robust,
    samples,
    severity,
    tables,
    verdicts,
)
from shrinkproof.report.view import CLEAN, Column, View


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the sections on robustness, calibration, single images and heat maps show.

    Attributes:
        curves: errors over severity, per model.
        totals: numbers over all corruptions.
        groups: errors of the groups of corruptions.
        single: corruption errors, one corruption per line.
        calibration: calibration errors beside chance.
        boxes_calibrated: calibration of detectors.
        boxes: what detectors miss, invent, lose and exchange.
        scaling: calibration errors with temperatures.
        flips: which images changed.
        tests: tests against the baseline.
        damage: what each class lost.
        hit: images that were hit hardest.
        potentials: how far sweeps may go.
        maps: heat maps in numbers.
        strips: heat maps in pictures.
        ranks: rank tests over networks.
        repeats: means over repeats.
        correlations: section -> how its numbers go with accuracy.
        further: section -> metrics that no other table shows.
        sayings: section -> what the controls say.
    """

    curves: Sequence[severity.Curves]
    totals: robust.RobustTable
    groups: robust.RobustTable
    single: robust.SingleTable
    calibration: calibrated.CalibrationTable
    boxes_calibrated: corrected.BoxCalibration
    boxes: boxes.BoxEvidence
    scaling: calibrated.ScalingTable
    flips: samples.FlipTable
    tests: verdicts.VerdictTable
    damage: Sequence[samples.DamageFigure]
    hit: Sequence[samples.HitLine]
    potentials: potential.Potentials
    maps: Sequence[looks.LookTable]
    strips: Sequence[looks.Strip]
    ranks: Sequence[across.Ranks]
    repeats: across.RepeatTable
    correlations: Mapping[str, across.Correlations]
    further: Mapping[str, tables.Further]
    sayings: Mapping[str, str]


def evidence(
    view: View,
    exhibits: Mapping[str, Sequence[Mapping[str, Any]]],
    margins: Mapping[str, float],
    images: Mapping[str, Sequence[samples.HitImage]],
) -> Evidence:
    """Return the evidence of a page; what was not measured is empty."""
    several = len(view.models) > 1
    table = calibrated.calibration_table(view)
    shown = calibrated.spelled_errors(view) if table.lines else ()
    elsewhere = [Column(metric, CLEAN) for metric in shown]
    pairs = {
        "robustness": ("correlations", "robustness."),
        "calibration": ("correlations", "detection." if view.detects else "calibration."),
        "looks": ("saliency-correlation", "saliency."),
    }
    return Evidence(
        curves=severity.curves(view),
        totals=robust.totals(view),
        groups=robust.groups(view),
        single=robust.single(view),
        calibration=table,
        boxes_calibrated=corrected.box_calibration(view)
        if view.detects
        else corrected.BoxCalibration(),
        boxes=boxes.box_evidence(view, exhibits),
        scaling=calibrated.scaling_table(view),
        flips=samples.flips(view),
        tests=verdicts.verdicts(view, margins),
        damage=samples.damage(view),
        hit=samples.hit_hardest(view, exhibits.get("exemplars", ()), images),
        potentials=potential.potentials(exhibits.get("potential", ()), several_models=several),
        maps=looks.tables(view),
        strips=looks.strips(view, exhibits.get("heatmaps", ())),
        ranks=across.ranks(exhibits.get("ranks", ())),
        repeats=across.repeats(view),
        correlations={
            section: across.correlations(exhibits.get(kind, ()), family, several_models=several)
            for section, (kind, family) in pairs.items()
        },
        further={
            "candidates": tables.further(view, elsewhere=elsewhere),
            "calibration": tables.further(view, ("calibration.",), elsewhere),
            "selective": tables.further(view, ("selective.",)),
        },
        sayings={
            "robustness": control.saying(view, view.robustness[0]),
            "calibration": control.saying(view, Column(view.calibration, CLEAN)),
            "samples": control.saying(view, Column(view.rows.quality, CLEAN)),
        },
    )
