"""The evidence of the made-up study: null levels, flips, tests, classes, heat maps, exhibits."""

from __future__ import annotations

import zlib

CORRUPTED = {"condition": "corrupted"}
CLEAN = {"condition": "clean"}
CLASSES = ("airplane", "bird", "cat", "deer", "truck")
MARGINS = {"accuracy.top1": 0.01}
HOLM = "Holm over 12 tests: all recipes of resnet20 on the report split, clean and corrupted"
MAPS = "gradcam at layer layer3, 8x8 places, class: the baseline's answer"
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "YPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
POSITIVE = {"unit": "ratio", "better": "higher"}
P_VALUE = {"unit": "probability", "better": "none"}


def noise(*parts: object) -> float:
    """Return a fixed number in [-1, 1] for the named parts."""
    return zlib.crc32(repr(parts).encode()) / 2**31 - 1


def evidence_rows(plant, base, record, scored) -> list[dict]:
    """Return what is derived from predictions and heat maps of one candidate."""
    rows = [*calibration_rows(plant, record, scored), *robust_rows(plant, base, record, scored)]
    if plant is base:
        return [*rows, *look_controls(plant, scored)]
    rows += [*flip_rows(plant, base, scored), *class_rows(plant, base, scored)]
    rows += look_rows(plant, scored)
    return rows if plant.role == "control" else [*rows, *test_rows(plant, base, record)]


def calibration_rows(plant, record, scored) -> list[dict]:
    chance = 0.028
    p = 0.21 if plant.ece < 0.03 else 0.004
    return [
        record(plant, "null_mean.calibration.ece", chance, **CLEAN),
        record(plant, "null_q95.calibration.ece", chance * 1.4, **CLEAN),
        record(plant, "null_p.calibration.ece", p, **CLEAN, **P_VALUE),
        record(plant, "change.null_mean.calibration.ece", 0.0012, **CLEAN, better="none"),
        scored(plant, "scaled.calibration.ece", plant.ece / 4, 0.003, **CLEAN),
        scored(plant, "scaled_by_baseline.calibration.ece", plant.ece / 3, 0.003, **CLEAN),
        record(plant, "scaled.calibration.ece", plant.ece, **CORRUPTED),
        scored(plant, "calibration.ece", plant.ece * 2.9, 0.004, condition="pooled"),
        scored(plant, "selective.auroc", 0.9 - plant.ece, 0.01, **CLEAN, better="higher"),
    ]


def robust_rows(plant, base, record, scored) -> list[dict]:
    told = "reference: resnet20/baseline; its error is below 5 % under fog: there a few images"
    told += " change the ratio by much, so compare the difference too"
    ratio = plant.robust / base.robust
    worst = {"reason": "worst of 5 corruptions: gaussian_noise; it was chosen on these images"}
    rows = [
        scored(plant, "robustness.worst_error", plant.robust * 1.6, 0.01, **CORRUPTED, **worst),
        scored(plant, "robustness.retention", 0.8, 0.01, **CORRUPTED, **POSITIVE),
        scored(plant, "robustness.error", plant.robust * 1.1, 0.01, condition="noise"),
        scored(plant, "robustness.error", plant.robust * 0.9, 0.01, condition="weather"),
    ]
    if plant.role == "recipe":
        same = {"status": "undefined", "better": "higher"}
        why = "the dense networks have clean accuracies 93.4 to 93.5 %: no equal one"
        gap = base.robust - plant.robust
        rows += [
            scored(plant, "robustness.ce", ratio, 0.02, condition="fog", unit="ratio", reason=told),
            scored(
                plant, "robustness.ce_difference", plant.robust - base.robust, 0.01, condition="fog"
            ),
            scored(plant, "robustness.relative", gap, 0.006, **CORRUPTED, better="higher"),
            record(plant, "robustness.effective", None, **CORRUPTED, **same, reason=why),
        ]
    return rows


def flip_rows(plant, base, scored) -> list[dict]:
    lost = abs(base.top1 - plant.top1) + 0.01
    note = f"class {CLASSES[2]}, the smallest change of {len(CLASSES)} classes: noise alone"
    rows = []
    for place, size in ((CLEAN, 1.0), (CORRUPTED, 2.0)):
        rows += [
            scored(plant, "flips.churn", lost * 2 * size, 0.004, **place, better="none"),
            scored(plant, "flips.negative", lost * size, 0.004, **place),
            scored(plant, "flips.positive", 0.01 * size, 0.003, **place, better="higher"),
            scored(plant, "flips.worst_class_change", -lost * 3, 0.03, **place, reason=note),
        ]
    return rows


def class_rows(plant, base, scored) -> list[dict]:
    rows = []
    for name in CLASSES:
        gap = plant.top1 - base.top1 + 0.03 * noise(plant.recipe, name)
        for place, size in ((CLEAN, 1.0), (CORRUPTED, 2.0)):
            at = {**place, "slice": f"class={name}", "better": "higher", "count": 1000}
            rows.append(scored(plant, "change.accuracy.recall", gap * size, 0.02, **at))
    return rows


def test_rows(plant, base, record) -> list[dict]:
    lost = base.top1 - plant.top1
    kept = 0.003 if lost < 0.005 else 0.4
    rows = []
    for place in (CLEAN, CORRUPTED):
        at = {**place, **P_VALUE}
        told = {"reason": "score-paired, 5000 units; margin 0.01"}
        rows += [
            record(plant, "mcnemar_p.accuracy.top1", 0.002 if lost > 0.005 else 0.6, **at),
            record(plant, "mcnemar_p_holm.accuracy.top1", 0.01 if lost > 0.005 else 1.0, **at,
                   reason=HOLM),
            record(plant, "noninferior_p.accuracy.top1", kept, **at, **told),
            record(plant, "noninferior_p_holm.accuracy.top1", min(1.0, 2 * kept), **at,
                   reason=HOLM),
            record(plant, "equivalent_p.accuracy.top1", 2 * kept, **at, **told),
        ]  # fmt: skip
    return rows


def look_rows(plant, scored) -> list[dict]:
    told = {"reason": f"mean on Fisher's scale 0.9; {MAPS}", "evaluator": "saliency"}
    value = 0.97 if plant.role == "control" else 0.9 - 2 * plant.ece
    rows = [
        scored(plant, metric, value, 0.01, **CLEAN, **POSITIVE, **told)
        for metric in ("saliency.hcc", "saliency.hcc_common", "saliency.ssim")
    ]
    for part in ("right", "wrong"):
        at = {**CLEAN, **POSITIVE, **told, "slice": f"baseline={part}"}
        rows.append(scored(plant, "saliency.hcc", value - 0.02, 0.01, **at))
    return rows


def look_controls(plant, scored) -> list[dict]:
    values = {"randomized": 0.04, "twin": 0.71, "other-image": 0.2}
    rows = [scored(plant, "saliency.hcc", 1.0, None, **CLEAN, **POSITIVE, reason=MAPS)]
    for name, value in values.items():
        at = {**CLEAN, **POSITIVE, "slice": f"control={name}", "reason": f"control; {MAPS}"}
        rows.append(scored(plant, "saliency.hcc", value, 0.03, **at))
    return rows


def exhibits(recipes: list[str]) -> dict[str, list[dict]]:
    """Return what is no number, as the summary of a run finds it."""
    labels = [f"resnet20/{name}" for name in recipes]
    return {
        "exemplars": [exemplar(label) for label in labels],
        "potential": [potential()],
        "ranks": [ranks()],
        "correlations": [pair("change.calibration.ece@clean", labels)],
        "saliency-correlation": [pair("saliency.hcc@clean", labels)],
        "heatmaps": [strip(label) for label in labels[:1]],
    }


def exemplar(label: str) -> dict:
    image = {"index": 17, "class": "cat", "predicted": "deer", "count": 9, "under": [], "loss": 0.4}
    return {
        "candidate": label,
        "baseline": "resnet20/baseline",
        "split": "report",
        "conditions": 16,
        "affected": 41,
        "images": [image],
        "reason": "",
    }


def potential() -> dict:
    def row(condition, reached, reason):
        steps = [{"value": v, "change": -0.01, "low": -0.02, "high": 0.0} for v in (0.3, 0.5, 0.7)]
        return {
            "condition": condition,
            "potential": reached,
            "stopped": 0.7,
            "reason": reason,
            "steps": steps,
        }

    why = "accuracy is 4.10 points lower, the margin is 1"
    return {
        "sweep": "prune{ratio}",
        "parameter": "ratio",
        "model": "resnet20",
        "split": "report",
        "metric": "accuracy.top1",
        "margin": 0.01,
        "values": "nominal",
        "reason": "",
        "rows": [
            row("clean", 0.5, why),
            row("fog", 0.3, why),
            row("gaussian_noise", None, why),
            row("corrupted", 0.3, why),
        ],
    }


def ranks() -> dict:
    return {
        "metric": "accuracy.top1@clean",
        "split": "report",
        "blocks": ["resnet20", "vgg16"],
        "left_out": [],
        "reason": "",
        "test": {
            "names": ["baseline", "int8", "prune0.5"],
            "mean_ranks": [1.0, 2.25, 2.75],
            "blocks": 2,
            "chi2": 3.8,
            "p": 0.15,
            "f": 5.2,
            "f_p": 0.16,
            "critical_difference": 2.34,
            "cliques": [["baseline", "int8", "prune0.5"]],
            "is_low_power": True,
            "caution": "low power: with 2 blocks no two of 3 treatments can be told apart",
        },
    }


def pair(y: str, labels: list[str]) -> dict:
    ends = {"value": -0.82, "low": -0.97, "high": -0.2, "reason": ""}
    return {
        "model": "resnet20",
        "split": "report",
        "x": "accuracy.top1@clean",
        "y": y,
        "candidates": labels,
        "left_out": [],
        "points": [[0.9, 0.1]] * len(labels),
        "pearson": ends,
        "spearman": ends,
        "caveat": "candidates are chosen, not drawn at random",
        "reason": "",
    }


def strip(label: str) -> dict:
    image = {
        "index": 23,
        "class": "cat",
        "explained": "deer",
        "hcc": -0.12,
        "image": PIXEL,
        "baseline_map": PIXEL,
        "candidate_map": PIXEL,
    }
    return {
        "model": "resnet20",
        "candidate": label,
        "baseline": "resnet20/baseline",
        "method": "gradcam",
        "layer": "layer3",
        "resolution": [8, 8],
        "split": "report",
        "condition": "clean",
        "about": MAPS,
        "count": 64,
        "undefined": 1,
        "others": 0,
        "images": [image],
    }
