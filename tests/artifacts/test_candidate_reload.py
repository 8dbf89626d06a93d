"""Any artifact of any recipe loads in a new process, without data, and gives the same logits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from shrinkproof.artifacts.candidate import PACKED, WEIGHTS, write_candidate
from shrinkproof.artifacts.session import Session
from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.records import Candidate

TUNE = {"epochs": 1, "batch": 64}
PRUNE = ("prune.weights", {"ratio": 0.6, "layers": "conv+linear"})
NARROW = ("prune.channels", {"ratio": 0.4, "round_to": 2})
CLUSTER = ("cluster", {"levels": 16})
STATIC = ("quantize.static", {})
QAT = ("quantize.qat", {"finetune": TUNE})
FOLD = ("fold", {})
FINETUNE = ("finetune", TUNE)

RECIPES = {
    "original": [],
    "fold": [FOLD],
    "recalibrate": [("recalibrate", {})],
    "P": [PRUNE, FINETUNE],
    "C 5": [("cluster", {"levels": 5})],
    "C 16": [CLUSTER, FINETUNE],
    "C 256": [("cluster", {"levels": 256})],
    "PC": [PRUNE, FOLD, CLUSTER],
    "channels": [NARROW],
    "int8": [STATIC],
    "QAT": [QAT],
    "P int8": [PRUNE, STATIC],
    "CQAT": [FOLD, CLUSTER, QAT],
    "PCQAT": [PRUNE, FOLD, CLUSTER, QAT],
    "weights int8": [("quantize.weights", {"format": "int8"})],
    "weights int4": [("quantize.weights", {"format": "int4"})],
    "weights float16": [("quantize.weights", {"format": "float16"})],
    "C weights bfloat16": [CLUSTER, ("quantize.weights", {"format": "bfloat16"})],
    "channels P C int8": [NARROW, PRUNE, FOLD, CLUSTER, STATIC],
}
INTEGER = {name for name, steps in RECIPES.items() if {STATIC[0], QAT[0]} & {s for s, _ in steps}}

SCRIPT = """
import importlib.util, sys, numpy as np, torch
from pathlib import Path
spec = importlib.util.spec_from_file_location("nets", sys.argv[1])
nets = importlib.util.module_from_spec(spec)
sys.modules["nets"] = nets
spec.loader.exec_module(nets)
from shrinkproof.artifacts.candidate import load_candidate
from shrinkproof.artifacts.session import Session
torch.set_num_threads(1)
images = nets.toy_inputs(1000, seed=3)[0][:100]
for folder in sorted(path for path in Path(sys.argv[2]).iterdir() if path.is_dir()):
    for packed in (False, True):
        model = load_candidate(folder, nets.Residual(), packed=packed)
        with torch.inference_mode():
            np.save(folder / f"packed-{packed}.npy", model(images).numpy())
    np.save(folder / "onnx.npy", Session(folder / "model.onnx")(images.numpy()))
"""

pytestmark = [pytest.mark.slow, pytest.mark.long]


QUICK = ("C 5", "PC", "channels P C int8")
NAMES = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow, id=name) for name in RECIPES
]


@pytest.fixture(scope="module")
def reloaded(residual, context, tmp_path_factory):
    """Return folder and model of a recipe; the quick ones are made together, and the others."""
    made = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def make(names):
        root: Path = tmp_path_factory.mktemp("reload")
        for name in names:
            steps = tuple(COMPRESSORS.create(step, fields) for step, fields in RECIPES[name])
            module, changes = Recipe(steps).apply(residual, context)
            candidate = Candidate(key="0123456789abcdef", model="toy", recipe=name)
            write_candidate(
                root / name,
                module=module,
                changes=changes,
                candidate=candidate,
                example=context.example,
            )
            made[name] = (root / name, module)
        nets = Path(__file__).with_name("conftest.py")
        subprocess.run([sys.executable, "-c", SCRIPT, str(nets), str(root)], check=True)

    def by_name(name):
        if name not in made:
            make(QUICK if name in QUICK else [n for n in RECIPES if n not in QUICK])
        return made[name]

    yield by_name
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def some_images(test_images):
    return test_images[:100]


@pytest.mark.parametrize("name", NAMES)
def test_both_weight_files_give_equal_bits_in_a_new_process(reloaded, name, some_images):
    folder, module = reloaded(name)
    with torch.inference_mode():
        expected = module(some_images).numpy()
    for packed in (False, True):
        np.testing.assert_array_equal(np.load(folder / f"packed-{packed}.npy"), expected)


@pytest.mark.parametrize("name", NAMES)
def test_exported_file_gives_the_logits_in_a_new_process(reloaded, name, some_images):
    folder, module = reloaded(name)
    got = np.load(folder / "onnx.npy")
    np.testing.assert_array_equal(got, Session(folder / "model.onnx")(some_images.numpy()))
    with torch.inference_mode():
        expected = module(some_images).numpy()
    if name in INTEGER:
        assert (got.argmax(1) == expected.argmax(1)).mean() >= 0.97
    else:
        np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_packed_file_is_never_much_larger(reloaded, name):
    folder, _ = reloaded(name)
    assert (folder / PACKED).stat().st_size < (folder / WEIGHTS).stat().st_size + 100
