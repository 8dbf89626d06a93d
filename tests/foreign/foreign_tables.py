"""Small tables of foreign results, written as others would."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from shrinkproof.records import SEVERITIES, STANDARD_15

HEADER = "dataset,model,variant,group,corruption,severity,error"

Error = Callable[[str, int], float]


def grown(start: float, step: float) -> Error:
    """An error that grows with the severity, a little differently for each corruption."""
    return lambda name, severity: (
        start + step * severity + 0.001 * STANDARD_15.index(name) if severity else start
    )


def rows(
    dataset: str, model: str, variant: str, error: Error, corruptions: Iterable[str] = STANDARD_15
) -> list[str]:
    """Rows of one candidate: clean first, then all severities of each corruption."""
    found = [f"{dataset},{model},{variant},clean,clean,0,{error('clean', 0):.6g}"]
    found += [
        f"{dataset},{model},{variant},any,{name},{severity},{error(name, severity):.6g}"
        for name in corruptions
        for severity in SEVERITIES
    ]
    return found


def write(path: Path, lines: Iterable[str], header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def conditions(path: Path, dataset: str = "cifar10") -> Path:
    """Two candidates of one network under everything."""
    return write(
        path,
        [
            *rows(dataset, "net", "original", grown(0.1, 0.05)),
            *rows(dataset, "net", "int8", grown(0.12, 0.06)),
        ],
    )


def summary(path: Path) -> Path:
    return write(
        path,
        [
            "cifar10,net,original,90,100.0,1.0,8,0.5",
            "cifar10,net,int8,90,120.3,4.0,2,0.25",
        ],
        "dataset,model,variant,accuracy_percent,mce,compression_ratio,zip_mib,latency_p95_ms",
    )
