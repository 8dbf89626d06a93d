"""Draw the figures of docs/findings.md from the tidy tables in results/.

python benchmarks/paper_figures.py results docs/images
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Final

import altair as alt
import polars as pl

from shrinkproof.report.figures import DIM, INK, svg
from shrinkproof.report.plots import PALETTE

TOP1: Final = "accuracy.top1"
ECE: Final = "calibration.ece[bins=10]"
DENSE: Final = "dense control"
ORIGINAL: Final = "original"

_REPEAT: Final = re.compile(r"#\d+$")


def means(table: Path) -> pl.DataFrame:
    """Return a row per network, variant and training: clean numbers, means of all others."""
    rows = pl.read_csv(table, schema_overrides={"value": pl.Float64})
    rows = rows.with_columns(
        variant=pl.col("variant").map_elements(lambda name: _REPEAT.sub("", name), pl.String),
        training=pl.col("variant"),
        place=pl.when(pl.col("condition") == "clean")
        .then(pl.lit("clean"))
        .otherwise(pl.lit("bad")),
    )
    wide = rows.pivot(
        on=["metric", "place"],
        index=["model", "variant", "training"],
        values="value",
        aggregate_function="mean",
    )
    return wide.rename({name: _column(name) for name in wide.columns if name.startswith("{")})


def _column(name: str) -> str:
    metric, place = re.findall(r'"([^"]*)"', name)
    return f"{metric}@{place}"


def drawing(
    rows: list[dict[str, Any]],
    x: alt.X,
    y: alt.Y,
    color: alt.Color,
    shape: alt.Shape | alt.UndefinedType = alt.Undefined,
) -> alt.Chart:
    """Return one plot with a mark per training."""
    chart = alt.Chart(alt.Data(values=rows)).mark_point(size=38, opacity=0.85, strokeWidth=1.6)
    return chart.encode(x=x, y=y, color=color, shape=shape).properties(width=300, height=190)


def colors(names: list[str], shown: list[str] | None = None) -> alt.Color:
    """Return the colors of methods, controls last; the legend has those that are shown."""
    scale = alt.Scale(domain=[*names, DENSE, ORIGINAL], range=[*PALETTE[: len(names)], DIM, INK])
    shown = [*(names if shown is None else shown), DENSE, ORIGINAL]
    legend = alt.Legend(orient="bottom", columns=len(shown), values=shown)
    return alt.Color("who:N", title=None, scale=scale, legend=legend)


def mitra(table: Path) -> alt.ConcatChart:
    """Return calibration and error over the ratio, three trainings each, beside both controls."""
    frame = means(table)
    methods = {"weight": "single weights", "filter": "filters, L1", "channel": "channels, BN scale"}
    quantities = {
        "ECE on clean images, %": (f"{ECE}@clean", False),
        "ECE under corruption, mean, %": (f"{ECE}@bad", False),
        "error on clean images, %": (f"{TOP1}@clean", True),
        "error under corruption, mean, %": (f"{TOP1}@bad", True),
    }
    color = colors(list(methods.values()))
    plots = []
    for title, (column, is_accuracy) in quantities.items():
        rows, rules = [], []
        for row in frame.iter_rows(named=True):
            value = 100 * (1 - row[column] if is_accuracy else row[column])
            found = re.fullmatch(r"(weight|filter|channel)(0\.\d)", row["variant"])
            if found:
                rows.append({"x": 100 * float(found[2]), "y": value, "who": methods[found[1]]})
            else:
                who = ORIGINAL if row["variant"] == "baseline" else DENSE
                rules.append({"y": value, "who": who})
        x = alt.X(
            "x:Q",
            title="removed, %",
            scale=alt.Scale(domain=[25, 75]),
            axis=alt.Axis(values=[30, 50, 70]),
        )
        free = alt.Scale(zero=False)
        mean = alt.Y("mean(y):Q", title=title, scale=free)
        lines = alt.Chart(alt.Data(values=rows)).mark_line(strokeWidth=1.6)
        dashed = alt.Chart(alt.Data(values=rules)).mark_rule(strokeDash=[5, 3], strokeWidth=1.4)
        plots.append(
            alt.layer(
                dashed.encode(y=mean, color=color),
                lines.encode(x=x, y=mean, color=color),
                drawing(rows, x, alt.Y("y:Q", title=title, scale=free), color),
            )
        )
    return alt.concat(*plots, columns=2)


def mantowsky(table: Path) -> alt.ConcatChart:
    """Return calibration and heat maps against accuracy, one mark per training."""
    frame = means(table)
    names = {"weight": "single weights", "filter": "filters, L1", "hrank": "filters, H-Rank"}
    shape = alt.Shape(
        "ratio:N",
        title=None,
        scale=alt.Scale(
            domain=["not pruned", "50 %", "70 %"], range=["cross", "circle", "triangle"]
        ),
        legend=alt.Legend(orient="bottom"),
    )
    rows = []
    for row in frame.iter_rows(named=True):
        found = re.fullmatch(r"(hrank|filter|weight)(0\.\d)", row["variant"])
        who = names[found[1]] if found else ORIGINAL if row["variant"] == "baseline" else DENSE
        rows.append(
            {
                "model": row["model"],
                "who": who,
                "ratio": f"{100 * float(found[2]):.0f} %" if found else "not pruned",
                "accuracy": 100 * row[f"{TOP1}@clean"],
                "ece": 100 * row[f"{ECE}@clean"],
                "hcc": row["saliency.hcc@clean"],
            }
        )
    drawn = {row["who"] for row in rows}
    color = colors(list(names.values()), [name for name in names.values() if name in drawn])
    plots = []
    for column, title in (("ece", "ECE on clean images, %"), ("hcc", "HCC, Grad-CAM")):
        for model in dict.fromkeys(row["model"] for row in rows):
            own = [row for row in rows if row["model"] == model and row[column] is not None]
            free = alt.Scale(zero=False, padding=8)
            x = alt.X("accuracy:Q", title=f"{model}: accuracy, %", scale=free)
            y = alt.Y(f"{column}:Q", title=title, scale=free)
            plots.append(drawing(own, x, y, color, shape))
    return alt.concat(*plots, columns=2)


def dasilva(table: Path) -> alt.ConcatChart:
    """Return mean error under corruption against the deflated file, one mark per training."""
    frame = means(table)
    forms = {
        "p": "pruned", "c": "clustered", "pc": "pruned and clustered",
        "prune": "pruned", "cluster": "clustered", "prune+cluster": "pruned and clustered",
    }  # fmt: skip
    color = colors(list(dict.fromkeys(forms.values())))
    shape = alt.Shape(
        "kind:N",
        title=None,
        scale=alt.Scale(
            domain=["float", "8-bit after training", "trained for 8 bits"],
            range=["circle", "square", "triangle"],
        ),
        legend=alt.Legend(orient="bottom"),
    )
    rows = []
    for row in frame.iter_rows(named=True):
        name = row["variant"].removesuffix("-longer")
        base, kind = name.removesuffix("+int8"), "float"
        if name.endswith("int8"):
            kind = "8-bit after training"
        elif name.endswith("qat"):
            base, kind = name.removesuffix("qat"), "trained for 8 bits"
        who = DENSE if name.startswith("dense-") else forms.get(base, ORIGINAL)
        rows.append(
            {
                "model": row["model"],
                "who": who,
                "kind": kind,
                "size": row["cost.bytes_zip@bad"] / 1000,
                "error": 100 * (1 - row[f"{TOP1}@bad"]),
            }
        )
    plots = []
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        x = alt.X(
            "size:Q", title=f"{model}: deflated file, kB", scale=alt.Scale(type="log", nice=False)
        )
        y = alt.Y("error:Q", title="error under corruption, mean, %", scale=alt.Scale(zero=False))
        plots.append(drawing(own, x, y, color, shape))
    return alt.concat(*plots, columns=2)


FIGURES: Final = {
    "mitra2024-cpu": (
        mitra,
        "Calibration errors and error rates of ResNet-20 over the pruned share",
    ),
    "mantowsky2023-cpu": (mantowsky, "Calibration error and heat map correlation against accuracy"),
    "mantowsky2023-vgg": (
        mantowsky,
        "Calibration error and heat map correlation of VGG-16 against accuracy",
    ),
    "dasilva2025-cpu": (dasilva, "Error under corruption against file size for sixteen variants"),
}


def main() -> None:
    """Write a figure for each table that is there."""
    results, out = Path(sys.argv[1]), Path(sys.argv[2])
    for name, (draw, description) in FIGURES.items():
        table = results / name / "records.csv.gz"
        if table.exists():
            drawn = svg(draw(table), name=name, description=description)
            page = drawn.replace(">", '><rect width="100%" height="100%" fill="white"/>', 1)
            print((out / f"{name}.svg").write_text(page, "utf-8"), out / f"{name}.svg")


if __name__ == "__main__":
    main()
