"""The claims of Mitra, Schwalbe and Klein 2024 on calibration and robustness after pruning."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from shrinkproof.verdict.claims import Claim, Effect, Joint, Paper, Protocol, Threshold
from shrinkproof.verdict.papers.terms import (
    ACCURACY,
    ECE,
    ECE_EQUAL_MASS,
    KEPT,
    MEAN_ERROR,
    SCALED_ECE,
    WORTH,
    from_control,
    of_number,
)

_CURVES: Final = "curves only"
_LARGEST: Final = 0.7
"""The largest published ratio."""
_LEVELS: Final = (0.0, _LARGEST)
_WORST: Final = "corrupted:5"

_CALIBRATION = Effect(f"{ECE}@clean", "weights", "lower", margin=WORTH, levels=_LEVELS)
_TREND = replace(_CALIBRATION, over="slope", margin=WORTH / _LARGEST)
_UNDER_CORRUPTION = replace(_CALIBRATION, selector=f"{ECE}@corrupted")
_ACCURACY = Effect(ACCURACY, "weights", "higher", margin=WORTH, levels=_LEVELS)
_ROBUSTNESS = Effect(MEAN_ERROR, "weights", "lower", margin=WORTH, levels=_LEVELS)
_ROBUSTNESS_TREND = replace(_ROBUSTNESS, over="slope", margin=WORTH / _LARGEST)
_MODERATE = Effect(
    f"{ECE}@clean",
    "filters",
    "lower",
    goal="keeps",
    margin=KEPT,
    over="every",
    levels=(0.0, 0.5),
)

_UNSTRUCTURED: Final = (
    Claim(
        name="A1",
        says="Pruning single weights lowers the calibration error on clean images.",
        published=_CURVES,
        where="abstract, Fig. 1",
        family="calibration",
        unit="training",
        test=_CALIBRATION,
        controls=(
            *of_number(_CALIBRATION, f"{ECE_EQUAL_MASS}@clean", "calibration.ece_debiased@clean"),
            from_control(_CALIBRATION),
            *of_number(_CALIBRATION, f"{SCALED_ECE}@clean"),
            replace(_CALIBRATION, over="every"),
        ),
    ),
    Claim(
        name="A2",
        says="The more single weights are pruned, the lower the calibration error.",
        published=_CURVES,
        where="abstract, Fig. 1",
        family="calibration",
        unit="training",
        test=_TREND,
        controls=(*of_number(_TREND, f"{ECE_EQUAL_MASS}@clean"), from_control(_TREND)),
    ),
    Claim(
        name="A3",
        says="Pruning single weights lowers the calibration error on corrupted images.",
        published=_CURVES,
        where="Fig. 3",
        family="calibration",
        unit="training",
        test=_UNDER_CORRUPTION,
        controls=(
            *of_number(
                _UNDER_CORRUPTION,
                f"{ECE_EQUAL_MASS}@corrupted",
                f"{ECE}@pooled",
                f"{ECE}@{_WORST}",
            ),
            from_control(_UNDER_CORRUPTION),
            *of_number(_UNDER_CORRUPTION, f"{SCALED_ECE}@corrupted"),
        ),
    ),
    Claim(
        name="A4",
        says="Pruning single weights raises the accuracy on clean images.",
        published=_CURVES,
        where="abstract, Fig. 1",
        family="accuracy",
        unit="training",
        test=_ACCURACY,
        controls=(
            from_control(_ACCURACY),
            replace(_ACCURACY, goal="keeps", margin=KEPT, over="every"),
        ),
    ),
    Claim(
        name="A5",
        says="Pruning single weights lowers the mean corrupted error.",
        published=_CURVES,
        where="abstract, Fig. 2",
        family="robustness",
        unit="training",
        test=_ROBUSTNESS,
        controls=(
            replace(_ROBUSTNESS, selector=f"accuracy.top1@{_WORST}", direction="higher"),
            from_control(_ROBUSTNESS),
            replace(_ROBUSTNESS, goal="keeps", margin=KEPT, over="every"),
        ),
    ),
    Claim(
        name="A6",
        says="Pruning single weights improves calibration and robustness of the same network.",
        published=_CURVES,
        where="abstract",
        family="both",
        unit="training",
        test=Joint((_CALIBRATION, _ROBUSTNESS)),
        controls=(
            Joint((from_control(_CALIBRATION), from_control(_ROBUSTNESS))),
            Joint((_TREND, _ROBUSTNESS_TREND)),
        ),
    ),
)

_STRUCTURED: Final = tuple(
    Claim(
        name=name,
        says=f"Pruning up to half of the {what} keeps the calibration error.",
        published=_CURVES,
        where="Fig. 1",
        family="structured",
        unit="training",
        test=effect,
        controls=(
            *of_number(effect, f"{ECE_EQUAL_MASS}@clean", f"{ECE}@corrupted"),
            from_control(effect),
        ),
    )
    for name, what, effect in (
        ("A7", "filters by their L1 norm", _MODERATE),
        ("A8", "channels by their batch-norm scales", replace(_MODERATE, method="slimming")),
    )
)

_ANCHORS: Final = (
    Claim(
        name="A9",
        says="The networks classify more than 90 % of the clean images correctly.",
        published="> 90 %",
        where="text",
        family="anchors",
        unit="image",
        test=Threshold(ACCURACY, "higher", 0.9),
        is_number=True,
    ),
    Claim(
        name="A10",
        says="Under corruptions of the worst severity they classify less than 55 % correctly.",
        published="< 55 %",
        where="text",
        family="anchors",
        unit="image",
        test=Threshold(f"accuracy.top1@{_WORST}", "lower", 0.55),
        is_number=True,
    ),
    Claim(
        name="A11",
        says="Under corruptions of the worst severity the calibration error rises by over 400 %.",
        published="> 400 %",
        where="text",
        family="anchors",
        unit="image",
        test=Threshold(f"{ECE}@{_WORST}", "higher", 4.0, relative_to=f"{ECE}@clean"),
        controls=(
            Threshold(
                f"{ECE_EQUAL_MASS}@{_WORST}",
                "higher",
                4.0,
                relative_to=f"{ECE_EQUAL_MASS}@clean",
            ),
        ),
        is_number=True,
    ),
)

PAPER: Final = Paper(
    name="mitra2024",
    title="Investigating Calibration and Corruption Robustness of Post-hoc Pruned Perception CNNs: "
    "An Image Classification Benchmark Study",
    reference="arXiv:2405.20876",
    protocol=Protocol(
        networks=(
            "cifar:vgg16_bn",
            "cifar:vgg19_bn",
            "cifar:resnet110",
            "cifar:preresnet110",
            "cifar:preresnet164",
        ),
        data=("cifar10:test",),
        epochs=40,
        images=10_000,
        runs=3,
    ),
    claims=(*_UNSTRUCTURED, *_STRUCTURED, *_ANCHORS),
    notes=(
        "The formula of the calibration error has bins of equal width, the experiments say equal "
        "mass: the first decides here, the second is a control.",
        "Whether the calibration error on corrupted images is pooled or a mean over corruptions is "
        "not known: the mean decides, the pooled one is a control.",
        "The authors' repository also names CIFAR-100, the paper's results are of CIFAR-10: only "
        "these are judged.",
        "Ratios above 0.7 were not published and do not count.",
        "All results but the three anchors are curves; directions are judged, not heights.",
        "Up to which ratio is moderate is not said; here up to 0.5.",
        "Whether the networks whose channels were pruned had been trained with a penalty on the "
        "scales, and whether the best epoch was chosen by test images, is not known.",
        "Unstructured pruning is said to gain more than structured pruning. That is not judged: at "
        "equal ratios the methods remove very different shares of a network.",
        "The original is compared as published, without the 40 epochs that pruned networks train "
        "longer; the dense network that trains as long is a control.",
    ),
)
"""Mitra, Schwalbe and Klein 2024, CVPR workshop SAIAD."""
