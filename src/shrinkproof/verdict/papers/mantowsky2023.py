"""The claims of Mantowsky et al. 2023 on calibration and heat maps of pruned networks."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from shrinkproof.verdict.claims import Claim, Correlation, Effect, Paper, Protocol
from shrinkproof.verdict.papers.terms import (
    ACCURACY,
    ECE,
    ECE_15,
    ECE_EQUAL_MASS,
    KEPT,
    SAME,
    SCALED_ECE,
    WORTH,
    from_control,
    of_number,
)

_HALF: Final = (0.45, 0.55)
_SEVENTY: Final = (0.65, 0.75)
_ABSTRACT: Final = "abstract"

_HRANK = Effect(f"{ECE}@clean", "hrank", "lower", margin=WORTH)
_AT_HALF = replace(_HRANK, levels=_HALF)
_AT_SEVENTY = replace(_HRANK, levels=_SEVENTY)
_KEPT_AT_HALF = Effect(ACCURACY, "hrank", "higher", goal="keeps", margin=KEPT, levels=_HALF)
_LOST_AT_SEVENTY = Effect(ACCURACY, "hrank", "lower", margin=WORTH, levels=_SEVENTY)


def _controls(effect: Effect) -> tuple[Effect, ...]:
    """Return what the paper lacks: other bins, equal training, the own temperature."""
    return (
        *of_number(effect, f"{ECE_15}@clean", f"{ECE_EQUAL_MASS}@clean"),
        from_control(effect),
        *of_number(effect, f"{SCALED_ECE}@clean"),
    )


def _number(effect: Effect, published: float) -> Effect:
    """Return a change of the calibration error that must be the published one, as a fraction."""
    return replace(effect, is_relative=True, margin=SAME, published=published)


_HRANK_CLAIMS: Final = (
    Claim(
        name="B1",
        says="H-Rank at 50 % lowers the calibration error.",
        published="lower by 35 %",
        where=_ABSTRACT,
        family="H-Rank",
        unit="training",
        test=_AT_HALF,
        controls=_controls(_AT_HALF),
    ),
    Claim(
        name="B2",
        says="H-Rank at 50 % keeps the accuracy.",
        published="negligible accuracy loss",
        where=_ABSTRACT,
        family="H-Rank",
        unit="training",
        test=_KEPT_AT_HALF,
        controls=(from_control(_KEPT_AT_HALF),),
    ),
    Claim(
        name="B3",
        says="H-Rank at 70 % lowers the calibration error.",
        published="lower by 77 %",
        where=_ABSTRACT,
        family="H-Rank",
        unit="training",
        test=_AT_SEVENTY,
        controls=_controls(_AT_SEVENTY),
    ),
    Claim(
        name="B4",
        says="H-Rank at 70 % costs accuracy.",
        published="accuracy loss, not quantified",
        where=_ABSTRACT,
        family="H-Rank",
        unit="training",
        test=_LOST_AT_SEVENTY,
        controls=(from_control(_LOST_AT_SEVENTY),),
    ),
    Claim(
        name="B5",
        says="H-Rank at 50 % lowers the calibration error by 35 %.",
        published="-35 %",
        where=_ABSTRACT,
        family="numbers",
        unit="training",
        test=_number(_AT_HALF, -0.35),
        controls=(_number(from_control(_AT_HALF), -0.35),),
        is_number=True,
    ),
    Claim(
        name="B6",
        says="H-Rank at 70 % lowers the calibration error by 77 %.",
        published="-77 %",
        where=_ABSTRACT,
        family="numbers",
        unit="training",
        test=_number(_AT_SEVENTY, -0.77),
        controls=(_number(from_control(_AT_SEVENTY), -0.77),),
        is_number=True,
    ),
)

_METHODS: Final = tuple(
    Claim(
        name=name,
        says=f"{what} lowers the calibration error, on average over the ratios.",
        published="some methods, not quantified",
        where=_ABSTRACT,
        family="methods",
        unit="training",
        test=effect,
        controls=_controls(effect),
    )
    for name, what, effect in (
        ("B7", "H-Rank", _HRANK),
        ("B8", "Pruning filters by their L1 norm", replace(_HRANK, method="filters")),
        ("B9", "Pruning single weights", replace(_HRANK, method="weights")),
    )
)

_DETECTORS: Final = tuple(
    Claim(
        name=name,
        says=f"Pruning lowers the {what} of detectors.",
        published="improved, not quantified",
        where=_ABSTRACT,
        family="detectors",
        unit="training",
        test=effect,
        controls=(
            from_control(effect),
            *of_number(effect, f"{metric}@corrupted", f"isotonic.{metric}@clean"),
        ),
        task="detection",
    )
    for name, what, metric in (
        ("B10", "detection calibration error (D-ECE)", "detection.d_ece"),
        ("B11", "localization-aware calibration error (LaECE)", "detection.laece"),
    )
    for effect in (Effect(f"{metric}@clean", "pruning", "lower", margin=WORTH),)
)

_HEAT_MAPS: Final = (
    Claim(
        name="B12",
        says="Compressed classifiers with heat maps more like the original's are more accurate.",
        published="correlates positively",
        where=_ABSTRACT,
        family="heat maps",
        unit="training",
        test=Correlation("saliency.hcc@clean", ACCURACY),
        controls=(
            Correlation("saliency.hcc_zero@clean", ACCURACY),
            Correlation("saliency.spearman@clean", ACCURACY),
        ),
    ),
    Claim(
        name="B13",
        says="Compressed detectors with heat maps more like the original's are more precise.",
        published="correlates positively",
        where=_ABSTRACT,
        family="heat maps of detectors",
        unit="training",
        test=Correlation("saliency.hcc@clean", "detection.ap@clean"),
        controls=(Correlation("saliency.hcc_zero@clean", "detection.ap@clean"),),
        task="detection",
    ),
)

PAPER: Final = Paper(
    name="mantowsky2023",
    title="DNN Pruning and Its Effects on Robustness",
    reference="doi:10.5220/0011651000003411",
    protocol=Protocol(networks=("cifar:vgg16_bn",), data=("cifar10:test",)),
    claims=(*_HRANK_CLAIMS, *_METHODS, *_DETECTORS, *_HEAT_MAPS),
    notes=(
        "Only the abstract was at hand.",
        "The images are not named; CIFAR-10 is likely, as H-Rank comes with a VGG-16 for it.",
        "The schedule of recovery is not known, so neither 35 % nor 77 % can be judged as numbers; "
        "their directions are.",
        "What 50 % and 70 % are of, filters, parameters or operations, is not known; here filters "
        "of each pruned layer.",
        "The bins of the calibration error are not known: ten of equal width decide, fifteen and "
        "ten of equal mass are controls.",
        "Some pruning methods are said to improve calibration, and only H-Rank is named; filters "
        "by L1 norm and single weights stand for the others; one that fails is no contradiction.",
        "Detector, images and the calibration error of boxes are not known; any pruned detector is "
        "judged by D-ECE and LaECE.",
        "The heat maps behind HCC, its kind of correlation, and the class that is explained are "
        "not known; here those that a run lists first, Pearson's, and the class that the original "
        "predicts.",
    ),
)
"""Mantowsky, Mualla, Bukhari and Schneider 2023, ICPRAM."""
