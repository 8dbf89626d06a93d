"""The model card: what a stranger must know before using the exported files, in Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, Final

import jinja2
import yaml

from shrinkproof import __version__
from shrinkproof.artifacts import candidate as files
from shrinkproof.export.agreement import Comparison
from shrinkproof.export.facts import Facts, Table, plain, said
from shrinkproof.export.source import Source
from shrinkproof.export.verification import PROGRAM, Verified
from shrinkproof.records import Change, Json
from shrinkproof.report import wording

_WIDTH: Final = 100
"""Longest line of a paragraph."""

_FAMILIES: Final = {"prune.": "pruning", "quantize.": "quantization", "cluster": "clustering"}
"""How names of steps begin -> tag."""

_TYPES: Final = {"accuracy.top1": "accuracy", "accuracy.brier": "brier_score"}
"""Our names of metrics -> those of the Hugging Face hub, where it has one."""

_TASKS: Final = {"classification": "image-classification", "detection": "object-detection"}
"""Our names of tasks -> those of the Hugging Face hub."""

_UNMEASURED: Final = "the network, for ONNX Runtime; what was measured is its PyTorch form"
"""What the exported file is where a study measures PyTorch networks."""

_PURPOSE: Final = {
    files.NETWORK: "the network that was measured, for ONNX Runtime",
    PROGRAM: "the network as a program of torch.export, for PyTorch",
    files.WEIGHTS: "its weights, float32",
    files.PACKED: "the same numbers in the fewest bytes",
    files.RECIPE: "who the candidate is, and the steps that made it",
    files.CHANGES: "what each step did; rebuilds the network without data",
    files.LAYERS: "what each layer costs",
    "preprocess.json": "from an image to the input, and the classes",
    "example.py": "classifies one image with ONNX Runtime and numpy alone",
    "study.yaml": "the study that made and measured it",
}


_PURPOSE_OF_BOXES: Final = {
    "preprocess.json": "from an image to the input, and from the outputs to boxes",
    "example.py": "finds boxes in one image with ONNX Runtime and the detector's source",
}


def render_card(facts: Facts, source: Source, made: Mapping[str, Json], verified: Verified) -> str:
    """Return the card.

    Args:
        facts: what was measured.
        source: images and base network.
        made: name of each other file -> ``{"sha256", "bytes"}``.
        verified: how far the files agree.
    """
    assets = resources.files("shrinkproof.export") / "assets"
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["table"] = table
    template = environment.from_string((assets / "card.md.j2").read_text("utf-8"))
    text = template.render(
        name=facts.candidate.label,
        study=facts.results.spec.full_name,
        version=__version__,
        facts=facts,
        summary=_summary(facts),
        images=source.images,
        split=facts.results.data["splits"][facts.results.printing],
        printing=facts.results.printing,
        deciding=facts.results.deciding,
        is_reused=facts.results.deciding == facts.results.printing
        and facts.results.spec.select is not None,
        conditions=_conditions(facts),
        model=facts.candidate.model,
        base=facts.results.spec.models[facts.candidate.model],
        fingerprint=source.base.fingerprint,
        recipe=_recipe(facts),
        calibration=_calibration(facts),
        selection=list(_selection(facts)),
        rules=_rules(facts),
        certificate=_certificate(facts),
        agreement=_agreement(verified.agreement),
        is_imitated=facts.candidate.is_imitated,
        missing=verified.missing,
        caveats=[plain(caveat) for caveat in facts.results.caveats],
        files=_files(made, facts.results.form, facts.results.spec.task),
        detector=_detector(facts, source),
        form=facts.results.form,
        machine=_machine(facts),
        roots=sorted(source.inputs.roots),
        limit=source.inputs.limit,
    )
    return f"---\n{_front_matter(facts, source)}\n---\n\n{reflowed(text)}"


def table(content: Table) -> str:
    """Return a table in Markdown with aligned columns."""
    rows = [[_cell(text) for text in row] for row in (content.titles, *content.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(content.titles))]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def reflowed(text: str) -> str:
    """Return Markdown with paragraphs and items of lists in lines of at most `_WIDTH` characters.

    Tables, headings and blocks of code stay as they are; more than one empty line becomes one.
    """
    done: list[str] = []
    waiting: list[str] = []
    is_code = False

    def finish() -> None:
        if waiting:
            indent = "  " * waiting[0].startswith("* ")
            words = " ".join(" ".join(waiting).split())
            done.extend(
                textwrap.wrap(
                    *(words, _WIDTH),
                    subsequent_indent=indent,
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )
            waiting.clear()

    for line in text.splitlines():
        is_fence = line.startswith("```")
        is_code ^= is_fence
        if is_code or is_fence or line.startswith(("|", "#")):
            finish()
            done.append(line)
        elif not line.strip():
            finish()
            done += [""] * bool(done and done[-1])
        else:
            if line.startswith("* "):
                finish()
            waiting.append(line)
    finish()
    return "\n".join(done).strip() + "\n"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return plain(text).replace("|", "\\|").replace("\n", " ")


def _front_matter(facts: Facts, source: Source) -> str:
    """Return the machine-readable part; fractions, bytes and seconds as in the records."""
    results, candidate = facts.results, facts.candidate
    task = _TASKS[results.spec.task]
    steps = [step["name"] for step in candidate.steps]
    kinds = [tag for start, tag in _FAMILIES.items() if any(s.startswith(start) for s in steps)]
    by_place: dict[str, list[Json]] = {}
    for record in facts.measured():
        entry: Json = {
            "type": _TYPES.get(record.metric, record.metric),
            "name": wording.metric_name(record.metric),
            "value": record.value,
        }
        about: Json = {}
        if record.low is not None and record.high is not None:
            about["interval_95"] = [record.low, record.high]
        if record.status != "ok":
            about["status"] = record.status
        if about:
            entry["args"] = about
        by_place.setdefault(record.condition, []).append(entry)
    value = {
        "library_name": "onnx",
        "pipeline_tag": task,
        "tags": [task, "onnx", "model-compression", *kinds, "shrinkproof"],
        "model-index": [
            {
                "name": f"{results.spec.full_name}/{candidate.label}",
                "results": [
                    {
                        "task": {"type": task},
                        "dataset": {
                            "name": f"{source.images.source}, {wording.place_name(place, 0)}",
                            "type": source.images.source,
                            "split": results.printing,
                            "args": {"condition": place, "images": len(source.images)},
                        },
                        "metrics": metrics,
                    }
                    for place, metrics in by_place.items()
                ],
            }
        ],
    }
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
    return text.rstrip()


def _summary(facts: Facts) -> str:
    """Return in one sentence what was made of what, in bytes."""
    candidate = facts.candidate
    own = facts.find("cost.bytes_zip", split="")
    base = facts.find("cost.bytes_zip", split="", label=facts.baseline or "?")
    if candidate.role == "baseline":
        text = f"The network {candidate.model} itself, uncompressed"
    elif candidate.role == "control":
        text = f"The network {candidate.model}, trained on without compression"
    else:
        text = f"The network {candidate.model}, compressed by the recipe {candidate.recipe}"
    if own is None or base is None or not own.value or not base.value:
        return f"{text}."
    size = plain(wording.times(own.value, base.value))
    return f"{text}: {said(own)} instead of {said(base)} zipped, {size}."


def _conditions(facts: Facts) -> str:
    found: dict[str, list[str]] = {}
    for condition in facts.results.spec.conditions_list():
        if not condition.is_clean:
            found.setdefault(condition.corruption, []).append(str(condition.severity))
    texts = [f"{wording.place_name(n, 0)} {', '.join(levels)}" for n, levels in found.items()]
    return "; ".join(texts)


def _recipe(facts: Facts) -> Table:
    """Return what every step was asked for, what it reached and what it left alone."""
    store = facts.results.store
    values = store.read_json(f"candidates/{facts.candidate.key}/changes.json") or []
    rows = []
    for value in values:
        change = Change.from_json(value)
        reasons: dict[str, list[str]] = {}
        for layer, reason in change.untouched.items():
            reasons.setdefault(str(reason), []).append(layer)
        alone = [f"{', '.join(layers)}: {reason}" for reason, layers in reasons.items()]
        rows.append(
            (
                f"{change.step} (version {change.version})",
                spelled(change.requested) or "nothing in numbers",
                spelled(change.achieved) or "nothing in numbers",
                "; ".join(alone),
            )
        )
    return Table(("Step", "Asked for", "Reached", "Left alone"), tuple(rows))


def spelled(values: Mapping[str, Any]) -> str:
    """Return named values in words: ``ratio 0.5, sparsity 0.493``."""
    return ", ".join(f"{name.replace('_', ' ')} {_value(v)}" for name, v in values.items())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return f"({spelled(value)})"
    if isinstance(value, list):
        return f"({len(value)} values)"
    return str(value)


def _calibration(facts: Facts) -> str:
    """Return what temperature scaling would take; empty where none was fitted."""
    record = facts.temperature()
    if record is None or record.value is None:
        return ""
    split = facts.results.deciding
    if facts.is_detector:
        return (
            f"The temperature fitted on the {split} split is {said(record)}; it divides the log "
            "odds of the scores. Isotonic regression and Platt scaling are fitted on the same "
            "split. The exported files are not corrected."
        )
    return (
        f"The temperature fitted on the {split} split is {said(record)}; dividing the logits by it "
        'gives the numbers "after temperature scaling". The exported files are not scaled.'
    )


def _detector(facts: Facts, source: Source) -> Json | None:
    """Return what only a card of a detector has; None for classifiers."""
    detector, size = source.base.detector, source.base.preprocess.size
    if detector is None:
        return None
    record = facts.threshold()
    chosen = ""
    if record is not None and record.value is not None:
        note = plain(record.reason).partition(";")[0]
        chosen = f"{record.value:.4g}, chosen on the {facts.results.deciding} split ({note})"
    shape = size or source.base.input_shape[1:]
    kind = type(detector)
    return {
        "rule": detector.rule,
        "name": f"{kind.__module__}.{kind.__qualname__}",
        "size": f"{shape[0]} x {shape[1]}",
        "threshold": chosen,
        "why": record.reason if record is not None else "",
    }


def _selection(facts: Facts) -> Iterator[str]:
    decision, label = facts.results.decision, facts.candidate.label
    if decision is None:
        yield "The study has no selection rules; nobody chose this candidate."
        return
    if label == decision.chosen:
        yield f"**{label} is the choice** under the rules of the study."
    elif label in decision.front:
        yield f"{label} is on the front, but is not the choice; that is {decision.chosen}."
    else:
        yield f"{label} is not the choice; that is {decision.chosen or 'nobody'}."
    if label in decision.infeasible:
        yield f"It breaks a rule: {'; '.join(decision.infeasible[label])}."
    if label in decision.undefined:
        yield f"It could not be compared: {decision.undefined[label]}."
    if label in decision.dominated:
        yield f"It is dominated by {', '.join(decision.dominated[label])}."
    if facts.candidate.role == "control":
        yield "It is a control, a yardstick that could not be chosen."
    yield from _odds(facts)
    yield from decision.why


def _odds(facts: Facts) -> Iterator[str]:
    """Yield in how many resampled data sets this candidate would have been taken."""
    found, label = facts.results.uncertainty, facts.candidate.label
    if found is None or found.reason or label not in found.front:
        return
    front, chosen = (
        round(found.replicates * share.get(label, 0.0)) for share in (found.front, found.chosen)
    )
    yield (
        f"Of {found.replicates:,} resampled data sets, {front:,} had it on the front and "
        f"{chosen:,} chose it."
    )


def _rules(facts: Facts) -> Table:
    """Return the rules of the study, checked again on the printed images for this candidate."""
    rows = []
    for rule in facts.results.constraints:
        number = facts.results.numbers.find(
            facts.candidate.label, facts.results.printing, rule.selector
        )
        value = "undefined" if number.value is None else f"{number.value:.6g}"
        verdict = "no" if number.value is None or not rule.is_met(number.value) else "yes"
        if number.low is not None and number.high is not None:
            value += f" ({number.low:.6g} to {number.high:.6g})"
            if rule.is_met(number.low) != rule.is_met(number.high):
                verdict += ", but the interval reaches to the other side"
        if number.status == "contaminated":
            verdict += ", but the number is contaminated"
        rows.append((str(rule), value, verdict))
    return Table(("Rule", "Here", "Kept"), tuple(rows))


def _certificate(facts: Facts) -> tuple[Table, list[str]]:
    """Return what a certificate says about this candidate: its tests, and the words around."""
    found = facts.results.certificate
    if found is None:
        return Table((), ()), []
    entry = next((c for c in found["candidates"] if c["label"] == facts.candidate.label), None)
    status = found["status"] + (f" ({found['why']})" if found["why"] else "")
    told = [
        f"Plan {found['plan']}, confidence {found['confidence']:g}, {found['images']:,} images of "
        f"the certify split, {found['units']:,} independent units: {status}.",
        *(f"Promise {promise['name']}: {promise['words']}." for promise in found["promises"]),
    ]
    if entry is None:
        return Table((), ()), [*told, "This candidate was not tested.", *found["scope"]]
    verdict = "is certified" if entry["certified"] else "is not certified"
    adjusted = plain(wording.p_value(entry["adjusted_p"]))
    why = f": {entry['why']}" if entry["why"] else ""
    told.append(f"This candidate {verdict} (adjusted {adjusted}){why}.")
    limits = {promise["name"]: promise["limit"] for promise in found["promises"]}
    rows = tuple(
        (
            test["name"],
            f"{limits[test['name']]:.6g}",
            f"{test['risk']:.6g}",
            f"{test['upper']:.6g}",
            plain(wording.p_value(test["p"])),
            str(test["worst"] or ""),
        )
        for test in entry["promises"]
    )
    level = f"{100 * (1 - found['look']['error']):g} %"
    bound = f"Upper bound at {level}, for this promise alone"
    titles = ("Promise", "Limit", "Measured", bound, "Test", "Worst condition")
    return Table(titles, rows), [*told, *found["scope"]]


def _agreement(found: Sequence[Comparison]) -> Table:
    rows = tuple(
        (
            item.first,
            item.second,
            item.condition,
            f"{item.same:,} of {item.count:,}",
            "none, bit for bit" if item.is_exact else f"{item.difference:.2g}",
            item.rule,
            "yes" if item.is_met else "no",
        )
        for item in found
    )
    is_of_boxes = any(item.boxes is not None for item in found)
    titles = (
        *("File", "Compared with", "Condition"),
        "Boxes in both" if is_of_boxes else "Same class",
        *("Largest difference", "Demanded", "Met"),
    )
    return Table(titles, rows)


def _files(made: Mapping[str, Json], form: str, task: str = "classification") -> Table:
    purpose = {**_PURPOSE, **({files.NETWORK: _UNMEASURED} if form == "twin" else {})}
    if task == "detection":
        purpose |= _PURPOSE_OF_BOXES
    rows = tuple(
        (name, purpose[name], f"{about['bytes']:,}", str(about["sha256"])[:16])
        for name, about in made.items()
    )
    return Table(("File", "What it is", "Bytes", "SHA-256 begins"), rows)


def _machine(facts: Facts) -> Table:
    """Return on which machines it was measured."""
    shards = facts.results.shards.values()
    own = dict.fromkeys(s.environment for s in shards if s.cell.candidate == facts.candidate.key)
    known = facts.results.store.environments()
    rows = []
    for key in own:
        machine = known.get(key)
        if machine is None:
            continue
        packages = machine["packages"]
        wanted = ("shrinkproof", "torch", "onnxruntime", "onnx", "numpy")
        rows.append(
            (
                key,
                f"{machine['cpu']['model']}, {machine['cpu']['usable_cores']} cores",
                f"{machine['os']['system']} {machine['os']['machine']}",
                f"{machine['python']['implementation']} {machine['python']['version']}",
                ", ".join(f"{name} {packages[name]}" for name in wanted if name in packages),
            )
        )
    return Table(("Key", "Processor", "System", "Python", "Packages"), tuple(rows))
