"""Commands about what is measured elsewhere: import (results, predictions), kit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from shrinkproof.cli import DONE
from shrinkproof.cli.options import RunFolder

_DEFAULT = "results"


class _DefaultGroup(TyperGroup):
    """A group whose first word may be left out: ``import FILE`` is ``import results FILE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the default command where none is named."""
        known = {*self.commands, *ctx.help_option_names}
        if args and args[0] not in known:
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


import_ = typer.Typer(
    cls=_DefaultGroup,
    no_args_is_help=True,
    help="Read results, or predictions, that were measured elsewhere; 'import FILE.csv' is "
    "'import results FILE.csv'.",
)


@import_.command("results")
def import_results(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="CSV files; each layout is recognized by its header, and they are joined.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Run directory to make.")],
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            metavar="THEIRS=OURS",
            help="What a column or corruption is called here, or a YAML file of such lines; may "
            "be repeated.",
        ),
    ] = None,
    baseline: Annotated[
        str,
        typer.Option(metavar="NAME", help="Variant that stands for the uncompressed network."),
    ] = "original",
    dataset: Annotated[
        str, typer.Option(metavar="NAME", help="Take only the rows of this data set.")
    ] = "",
    scale: Annotated[
        Literal["auto", "percent", "fraction"],
        typer.Option(help="How errors and accuracies are written; auto lets the values tell."),
    ] = "auto",
    rounded: Annotated[
        bool | None,
        typer.Option(
            "--rounded/--exact",
            help="Round each corruption error to whole percent; default: as the table's mCE does.",
        ),
    ] = None,
) -> int:
    """Make a run directory of published or foreign results, for results, pareto and report."""
    from shrinkproof.foreign.run import import_results

    found = import_results(
        files,
        out,
        mapping=mapping or (),
        baseline=baseline,
        dataset=dataset,
        scale=scale,
        rounded=rounded,
    )
    models = dict.fromkeys(candidate.model for candidate in found.candidates)
    typer.echo(
        f"{out}: {len(found.candidates)} candidate(s) of {len(models)} network(s), "
        f"{len(found.spec.conditions_list())} condition(s)"
    )
    for note in found.data["notes"]:
        typer.echo(f"note: {note}")
    typer.echo(f"read it with: shrinkproof results {out}; shrinkproof pareto {out}")
    return DONE


@import_.command("predictions")
def import_predictions(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help=".npz or .parquet, one per condition, as the kit's runner."
        ),
    ],
    run: Annotated[Path, typer.Option(metavar="DIR", help="The run that the kit was made from.")],
    candidate: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the new candidate, such as int8-npu.")
    ],
    of: Annotated[
        str,
        typer.Option(
            metavar="MODEL/RECIPE",
            help="Which candidate the target executes; default: the baseline of the only model.",
        ),
    ] = "",
    condition: Annotated[
        str,
        typer.Option(metavar="NAME", help="Such as clean or fog:3, where the file does not say."),
    ] = "",
    split: Annotated[
        str, typer.Option(metavar="NAME", help="select or report, where the file does not say.")
    ] = "",
    device: Annotated[
        str, typer.Option(metavar="TEXT", help="What the target is; stands beside its numbers.")
    ] = "",
    network: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The file that the target executes, for its size."),
    ] = None,
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities", help="The files hold the softmax instead of logits."),
    ] = False,
) -> int:
    """Store predictions of a target as cells of a run, after checking ids and hashes."""
    from shrinkproof.foreign.predicted import import_predictions

    found = import_predictions(
        files,
        run,
        candidate=candidate,
        of=of,
        condition=condition,
        split=split,
        device=device,
        network=network,
        probabilities=probabilities,
    )
    label, results = found.candidate.label, found.results
    typer.echo(f"{label}: predicted elsewhere by {found.of}; stored:")
    for at, share in found.conditions.items():
        text = "" if share is None else f", {100 * share:.2f} % of the classes as predicted here"
        typer.echo(f"  {at}{text}")
    own = {(c.split, c.condition) for c in results.cells if c.candidate == found.candidate.key}
    wanted = {(c.split, c.condition) for c in results.cells if c.split}
    missing = sorted(f"{at} on {name}" for name, at in wanted - own)
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
        typer.echo(f"not yet: {shown}; means over conditions need all of them")
    return DONE


def kit(
    folder: RunFolder,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="KITDIR", help="Where to write it.")],
    split: Annotated[
        str, typer.Option(metavar="NAME", help="select or report; default: what is printed.")
    ] = "",
    condition: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Such as clean or fog:3; may be repeated; default all of the study.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Only the first N images, to try the target."),
    ] = None,
) -> int:
    """Write the images of a run with a runner, to predict them on a target we cannot run."""
    from shrinkproof.cli.progress import watcher
    from shrinkproof.foreign.kit import RUNNER, write_kit

    with watcher() as progress:
        found = write_kit(
            folder, out, split=split, conditions=condition or (), limit=limit, progress=progress
        )
    typer.echo(
        f"{out}: {found.count} images of {found.split} under {len(found.conditions)} condition(s), "
        f"{found.bytes / 1e6:.1f} MB, see manifest.json"
    )
    if found.deciding != found.split:
        typer.echo(
            f"note: the choice is made on {found.deciding}; its kit is written with --split "
            f"{found.deciding}"
        )
    typer.echo(f"on the target: python {RUNNER} NETWORK")
    typer.echo(
        f"then: shrinkproof import predictions {out}/predictions/*.npz --run {folder} "
        "--candidate NAME --of MODEL/RECIPE"
    )
    return DONE
