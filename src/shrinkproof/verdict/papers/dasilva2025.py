"""The claims of da Silva et al. 2025 on robustness after pruning, clustering and quantization."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from shrinkproof.verdict.claims import (
    Between,
    Claim,
    Count,
    Direction,
    Effect,
    FormGap,
    Front,
    Paper,
    Protocol,
    Table,
)
from shrinkproof.verdict.papers.tables import published_column, published_count, published_front
from shrinkproof.verdict.papers.terms import (
    ACCURACY,
    KEPT,
    MEAN_ERROR,
    WORTH,
    from_control,
    of_number,
)

_MCE: Final = "robustness.mce"
_RATIO: Final = "cost.compression_ratio_zip"
_BYTES: Final = "cost.bytes_zip"
_COLLAPSE: Final = 0.05
"""The smallest published loss of a file made from a network with quantization-aware training is
10.6 points, the largest of one that was pruned or clustered before is 0.2."""

_TABLE_CLAIMS: Final = tuple(
    Claim(
        name=name,
        says=f"The {what} of all sixteen variants of three networks is as published.",
        published="96 numbers",
        where="results tables",
        family="tables",
        unit="training",
        test=Table({column: selector}, published_column(of, column)),
        is_number=True,
    )
    for name, what, column, selector, of in (
        ("C1", "accuracy on clean images", "accuracy", ACCURACY, "accuracy_percent"),
        ("C2", "mean corruption error (mCE)", "mCE", _MCE, "mce"),
        ("C3", "compression ratio of deflated files", "ratio", _RATIO, "compression_ratio"),
    )
)


_KEPT_ACCURACY = Effect(ACCURACY, "cluster", "higher", goal="keeps", margin=KEPT)
_KEPT_ROBUSTNESS = Effect(MEAN_ERROR, "cluster", "lower", goal="keeps", margin=KEPT)
_BOTH: Final = "prune+cluster"

_NEVER_BELOW: Final = tuple(
    Claim(
        name=name,
        says=f"{what} of every network.",
        published=published,
        where="results tables",
        family="never below",
        unit="training",
        test=effect,
        controls=(from_control(effect), replace(effect, goal="improves", margin=WORTH)),
    )
    for name, what, published, effect in (
        ("C4", "Clustering keeps the accuracy", "-0.2 to +3.6 points", _KEPT_ACCURACY),
        ("C5", "Clustering keeps the mean corrupted error", "mCE 81.3 to 97.5", _KEPT_ROBUSTNESS),
        (
            "C6",
            "Pruning and clustering keep the accuracy",
            "-0.3 to +4.1 points",
            replace(_KEPT_ACCURACY, method=_BOTH),
        ),
        (
            "C7",
            "Pruning and clustering keep the mean corrupted error",
            "mCE 81.1 to 98.6",
            replace(_KEPT_ROBUSTNESS, method=_BOTH),
        ),
    )
)

_GAIN = Effect(MEAN_ERROR, "cluster", "lower", margin=WORTH)
_RELATIVE: Final[dict[str, Direction]] = {_RATIO: "higher", _MCE: "lower", ACCURACY: "higher"}
_ABSOLUTE: Final[dict[str, Direction]] = {_BYTES: "lower", MEAN_ERROR: "lower", ACCURACY: "higher"}
_INTEGERS = Effect(MEAN_ERROR, "int8", "higher", margin=WORTH)

_OTHERS: Final = (
    Claim(
        name="C8",
        says="Clustering lowers the mean corrupted error of the most complex network more than "
        "that of the simplest.",
        published="not quantified",
        where="abstract",
        family="complexity",
        unit="training",
        test=Between(_GAIN, by=_BYTES),
        controls=(
            Between(replace(_GAIN, method=_BOTH), by=_BYTES),
            Between(replace(_GAIN, is_relative=True), by=_BYTES),
            Between(from_control(_GAIN), by=_BYTES),
            Between(_GAIN, by="cost.macs"),
        ),
    ),
    Claim(
        name="C9",
        says="The variants that no other dominates in ratio, mCE and accuracy, all networks "
        "together, are the published ones.",
        published="5 of 48 on CIFAR-10, 9 of 48 on CIFAR-100",
        where="multi-objective assessment",
        family="front",
        unit="image",
        test=Front(_RELATIVE, published_front()),
        controls=(Front(_ABSOLUTE, published_front()),),
        is_number=True,
    ),
    Claim(
        name="C10",
        says="The 8-bit file of a network with quantization-aware training alone loses more than "
        "5 points of accuracy against its float form.",
        published="10.6 to 30.1 points on CIFAR-10, 11.0 to 14.5 on CIFAR-100",
        where="results tables",
        family="conversion",
        unit="training",
        test=FormGap(ACCURACY, "qat", "lower", _COLLAPSE),
        controls=tuple(
            FormGap(ACCURACY, method, "lower", _COLLAPSE) for method in ("pqat", "cqat", "pcqat")
        ),
    ),
    Claim(
        name="C11",
        says="8-bit quantization after training raises the mean corrupted error.",
        published="mCE above 100 in 5 of 6 cases",
        where="results tables",
        family="integers",
        unit="training",
        test=_INTEGERS,
        controls=of_number(_INTEGERS, _MCE),
    ),
    Claim(
        name="C12",
        says="31 of 45 compressed variants have an mCE of at most 100.",
        published="31 of 45 on either data set",
        where="results tables",
        family="count",
        unit="image",
        test=Count(_MCE, 1.0, "lower", published_count(1.0)),
        is_number=True,
    ),
)

PAPER: Final = Paper(
    name="dasilva2025",
    title="Evaluating the Impact of Compression Techniques on the Robustness of CNNs under Natural "
    "Corruptions",
    reference="arXiv:2512.24971",
    protocol=Protocol(
        networks=("upsampled:resnet50", "upsampled:vgg19", "upsampled:mobilenet_v2"),
        data=("cifar10:test", "cifar100:test"),
        epochs=30,
        images=10_000,
        runs=1,
    ),
    claims=(*_TABLE_CLAIMS, *_NEVER_BELOW, *_OTHERS),
    notes=(
        "Numbers are means over the authors' published results, by their formulas; a single run of "
        "each configuration, without intervals.",
        "At most 30 epochs, stopped early; pruned networks train 8 to 27 epochs, as many as the "
        "original took to its best.",
        "The authors stop training by the test images, and so choose by them; here images that "
        "decide nothing are kept apart.",
        "mCE is relative to each network's own original, so the published front compares numbers "
        "with different references; the control has absolute ones.",
        "Which networks are complex is not defined: here by the size of the deflated original, "
        "which is published; by multiply-accumulates VGG-19 is the largest, a control.",
        "Never below holds for the published mCE. Clustering lost 0.2 points of accuracy with "
        "ResNet-50 on CIFAR-100, and pruning and clustering 0.3 with MobileNetV2, within the "
        "margin.",
        "Quantization-aware training alone annotates single layers, the others the whole network; "
        "a defect of the converter with single layers is known. The claim on the 8-bit file is "
        "about that artefact: a correct conversion contradicts it.",
    ),
)
"""da Silva, Pereira, Barboza, Santos Neto and Ribeiro 2025."""
