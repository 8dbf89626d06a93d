"""Plugins: found by their entry points, broken ones contained, clashes spelled out."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

METRIC = '''
from typing import ClassVar

from shrinkproof.protocols import Better
from shrinkproof.registry import component


@component
class Confidence:
    """Mean of the largest softmax probability.

    Input: logits (N, C) float32; N >= 1.
    Output: fraction in [0, 1]. Undefined (nan) for N = 0.
    Reference: none.
    Example: none.
    """

    name: ClassVar[str] = "confidence.mean"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.NONE
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = True

    def __call__(self, predictions):
        import numpy as np

        top = np.exp(predictions.log_prob().max(axis=1))
        return float(min(top.mean(), 1.0)) if len(top) else float("nan")

    def terms(self, predictions):
        return None
'''

STUDY = """
study: s
models: {m: "import:net:make"}
data: {report: digits}
measure: {scores: [accuracy.top1, SCORE]}
select: {maximize: [accuracy.top1@clean]}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder as pip would leave it behind after installing four plugins."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "good_plugin.py").write_text(METRIC, "utf-8")
    (folder / "broken_plugin.py").write_text("import a_package_that_is_absent\n", "utf-8")
    (folder / "loose_plugin.py").write_text("value = 3\n", "utf-8")
    distributions = {
        "good": "confidence.mean = good_plugin:Confidence\naccuracy.top1 = good_plugin:Confidence\n"
        "both.claim = good_plugin:Confidence\n",
        "other": "both.claim = good_plugin:Confidence\n",
        "broken": "broken.metric = broken_plugin:Metric\n",
        "loose": "loose.metric = loose_plugin:value\n",
    }
    for name, points in distributions.items():
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[shrinkproof.metrics]\n{points}", "utf-8")
    return folder


def _run(site, code):
    """Run code in a fresh process that sees the plugins; return what it prints, as JSON."""
    head = "import json\nfrom shrinkproof.metrics import METRICS\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", head + textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _message(site, statement, setup=""):
    return _run(
        site,
        f"""
        from shrinkproof.errors import ShrinkproofError
        {setup}
        try:
            {statement}
        except ShrinkproofError as error:
            print(json.dumps([type(error).__name__, str(error)]))
        """,
    )


def test_names_show_plugins_and_spell_clashes_out(site):
    names = _run(site, "print(json.dumps(METRICS.names()))")
    assert "accuracy.top1" in names
    assert {"confidence.mean", "broken.metric", "loose.metric"} <= set(names)
    assert {"good/accuracy.top1", "good/both.claim", "other/both.claim"} <= set(names)
    assert "both.claim" not in names


def test_a_good_plugin_passes_the_kit_and_is_described(site):
    row = _run(
        site,
        """
        from shrinkproof.testing import check_metric
        check_metric(METRICS.get("confidence.mean"))
        print(json.dumps(METRICS.describe("confidence.mean")))
        """,
    )
    assert row["origin"] == "good"
    assert row["summary"] == "Mean of the largest softmax probability."
    assert (row["unit"], row["better"], row["version"]) == ("fraction", "none", 1)
    assert "broken" not in row


def test_a_built_in_name_cannot_be_shadowed(site):
    modules = """
    print(json.dumps([METRICS.get(n).__module__ for n in ("accuracy.top1", "good/accuracy.top1")]))
    """
    assert _run(site, modules) == ["shrinkproof.metrics.accuracy", "good_plugin"]


def test_a_broken_plugin_is_shown_and_named_when_it_is_used(site):
    row = _run(site, 'print(json.dumps(METRICS.describe("broken.metric")))')
    kind, text = _message(site, 'METRICS.get("broken.metric")')
    assert kind == "PluginError"
    assert row["broken"] == text
    for part in ("'broken.metric'", "'broken'", "a_package_that_is_absent", "Repair or uninstall"):
        assert part in text


def test_an_entry_point_that_is_no_class_is_refused(site):
    kind, text = _message(site, 'METRICS.get("loose.metric")')
    assert kind == "PluginError"
    assert "'loose' must be a class, got int; correct its entry point" in text


def test_two_plugins_with_one_name_are_both_named(site):
    kind, text = _message(site, 'METRICS.get("both.claim")')
    assert kind == "PluginError"
    assert "claimed by 2 plugins" in text
    assert "good/both.claim" in text
    assert "other/both.claim" in text


def test_an_unknown_name_suggests_plugins_too(site):
    kind, text = _message(site, 'METRICS.get("confidence.maen")')
    assert kind == "UnknownNameError"
    assert "'confidence.mean'" in text


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        ("broken.metric", "measure.scores.1: metric 'broken.metric' of the package 'broken'"),
        ("confidence.maen", "measure.scores.1: unknown metric 'confidence.maen'; did you mean"),
    ],
)
def test_study_files_meet_plugins(site, score, expected):
    setup = "from shrinkproof.spec import load_study_spec"
    kind, text = _message(site, f"load_study_spec({STUDY.replace('SCORE', score)!r})", setup)
    assert kind == "SpecError"
    assert expected in text


def test_a_study_file_and_the_schema_take_a_good_plugin(site):
    code = f"""
    from shrinkproof.spec import json_schema, load_study_spec
    spec = load_study_spec({STUDY.replace("SCORE", "confidence.mean")!r})
    fields = json_schema()["$defs"]["MeasureSpec"]["properties"]
    scores = fields["scores"]["items"]["anyOf"][0]["enum"]
    print(json.dumps([spec.measure.scores, "confidence.mean" in scores]))
    """
    assert _run(site, code) == [["accuracy.top1", "confidence.mean"], True]
