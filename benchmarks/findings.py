"""Print the tables of docs/findings.md from a run directory.

python benchmarks/findings.py runs/cifar10-evidence
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from shrinkproof.records import Record
from shrinkproof.results import Results

ECE, TOP1 = "calibration.ece", "accuracy.top1"

Find = Callable[..., Record | None]


def finder(results: Results, label: str) -> Find:
    """Return what finds a printed number of a candidate."""
    rows = {
        (r.metric, r.condition, r.severity, r.slice): r
        for r in results.records
        if (r.split, r.form) == (results.printing, results.form)
        and f"{r.model}/{r.recipe}" == label
    }
    maps = {
        (r.metric, r.condition, r.severity, r.slice): r
        for r in results.records
        if r.evaluator in ("saliency", "summary")
        and r.split == results.printing
        and r.metric.startswith("saliency.")
        and f"{r.model}/{r.recipe}" == label
    }

    def find(metric: str, condition: str = "clean", part: str = "") -> Record | None:
        known = maps if metric.startswith("saliency.") else rows
        return known.get((metric, condition, 0, part))

    return find


def percent(row: Record | None, *, signed: bool = False) -> str:
    """Return a fraction in percent with its interval."""
    if row is None or row.value is None:
        return "-"
    sign = "+" if signed else ""
    text = f"{100 * row.value:{sign}.2f}"
    if row.low is None or row.high is None:
        return text
    return f"{text} [{100 * row.low:{sign}.2f}, {100 * row.high:{sign}.2f}]"


def plain(row: Record | None, digits: int = 3) -> str:
    """Return a number with its interval."""
    if row is None or row.value is None:
        return "-"
    text = f"{row.value:.{digits}f}"
    if row.low is None or row.high is None:
        return text
    return f"{text} [{row.low:.{digits}f}, {row.high:.{digits}f}]"


def calibration(results: Results) -> Iterator[list[str]]:
    """Yield a line per candidate: accuracy, ECE with its null level, after temperature scaling."""
    yield [
        *("candidate", "top-1 %", "ECE %", "chance % (95 %)", "p", "ECE change", "chance change"),
        *("T", "own T", "baseline's T", "chance, own T"),
    ]
    for candidate in results.candidates:
        find = finder(results, candidate.label)
        temperature = next(
            (
                r
                for r in results.records
                if r.metric == "calibration.temperature"
                and f"{r.model}/{r.recipe}" == candidate.label
            ),
            None,
        )
        mean, high = find(f"null_mean.{ECE}"), find(f"null_q95.{ECE}")
        yield [
            candidate.label,
            percent(find(TOP1)),
            percent(find(ECE)),
            f"{percent(mean)} ({percent(high)})",
            plain(find(f"null_p.{ECE}")),
            percent(find(f"change.{ECE}"), signed=True),
            percent(find(f"change.null_mean.{ECE}"), signed=True),
            plain(temperature, 2),
            percent(find(f"scaled.{ECE}")),
            percent(find(f"scaled_by_baseline.{ECE}")),
            percent(find(f"null_mean.scaled.{ECE}")),
        ]


def robustness(results: Results) -> Iterator[list[str]]:
    """Yield a line per candidate: errors under corruption, and calibration there."""
    yield [
        *("candidate", "mean error %", "mCE %", "change of mean error", "from control"),
        *("effective", "ECE corrupted %", "pooled %", "negative flips %"),
    ]
    for candidate in results.candidates:
        find = finder(results, candidate.label)
        mean = "robustness.mean_error"
        yield [
            candidate.label,
            percent(find(mean, "corrupted")),
            percent(find("robustness.mce", "corrupted")),
            percent(find(f"change.{mean}", "corrupted"), signed=True),
            percent(find(f"change_from_control.{mean}", "corrupted"), signed=True),
            percent(find("robustness.effective", "corrupted"), signed=True),
            percent(find(ECE, "corrupted")),
            percent(find(ECE, "pooled")),
            percent(find("flips.negative")),
        ]


def saliency(results: Results) -> Iterator[list[str]]:
    """Yield a line per candidate, and the controls of each baseline."""
    yield ["candidate", "HCC Grad-CAM", "right", "wrong", "undefined %", "SSIM", "HCC RISE"]
    for candidate in results.candidates:
        find = finder(results, candidate.label)
        parts = [("", candidate.label)]
        if candidate.role == "baseline":
            names = ("randomized", "twin", "other-image", "split-half")
            parts = [(f"control={name}", f"{candidate.model} {name}") for name in names]
        for part, label in parts:
            yield [
                label,
                plain(find("saliency.hcc", part=part)),
                "-" if part else plain(find("saliency.hcc", part="baseline=right"), 2),
                "-" if part else plain(find("saliency.hcc", part="baseline=wrong"), 2),
                percent(find("saliency.undefined", part=part)),
                plain(find("saliency.ssim", part=part)),
                plain(find("saliency.hcc[method=rise]", part=part)),
            ]


def main() -> None:
    """Print all tables as Markdown, and the correlations."""
    results = Results.load(Path(sys.argv[1]))
    for table in (calibration, robustness, saliency):
        head, *lines = table(results)
        print(f"\n| {' | '.join(head)} |\n| --- |{' ---: |' * (len(head) - 1)}")
        for line in lines:
            print(f"| {' | '.join(line)} |")
    print()
    for kind in ("correlations", "saliency-correlation"):
        for item in results.exhibits(kind):
            found = item["pearson"]
            matched = item["at_matched_reduction"]
            shown = item["reason"] if found is None else f"{found['value']:+.2f}"
            print(
                f"{item['model']}: {item['y']} with {item['x']}: r = {shown}, "
                f"n = {len(item['candidates'])}, matched {matched['value'] or matched['reason']}"
            )


if __name__ == "__main__":
    main()
