"""The exported folder: the measured file, loaded again, or nothing."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from shrinkproof.artifacts.candidate import load_candidate
from shrinkproof.compression.compressed import CompressedModel
from shrinkproof.errors import DataError, ExportError, ModelError, UnknownNameError, UsageError
from shrinkproof.export import export_candidate, verification
from shrinkproof.export.agreement import STORED
from shrinkproof.export.package import COPIED
from shrinkproof.export.program import load_program, write_program
from shrinkproof.export.source import open_source
from shrinkproof.export.target import folder_name, folder_of
from shrinkproof.records import Candidate, Failure
from shrinkproof.results import Results
from shrinkproof.results.naming import find_candidate
from shrinkproof.study.twin import load_twin

from .conftest import stored


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())


# round trip


def test_the_files_are_those_of_the_run_and_agree_with_it(sample):
    for name in COPIED:
        assert (sample.folder / name).read_bytes() == (sample.stored / name).read_bytes()
    found = manifest_of(sample.folder)
    assert found["missing"] == {}
    measured = [item for item in found["agreement"] if item["second"] == STORED]
    assert measured[0]["condition"] == "clean"
    assert len(measured) == 2
    assert all(item["is_exact"] and item["same"] == item["images"] == 40 for item in measured)
    assert {item["first"] for item in found["agreement"]} == {
        "model.onnx", "weights.safetensors", "model.pt2",
    }  # fmt: skip


def test_the_manifest_pins_every_other_file(sample):
    found = manifest_of(sample.folder)["files"]
    for path in sample.folder.iterdir():
        if path.name != "manifest.json":
            content = path.read_bytes()
            assert found.pop(path.name) == {
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
    assert found == {}


def test_the_folder_rebuilds_the_network_bit_for_bit(sample):
    expected = load_twin(str(sample.run), "net", sample.stored).state_dict()
    fresh = load_twin(str(sample.run), "net", stored(sample.run, "baseline"))
    for parameter in fresh.parameters():
        parameter.data.zero_()
    for packed in (False, True):
        found = load_candidate(sample.folder, fresh, packed=packed).state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    model = CompressedModel.load(sample.folder, fresh)
    assert model.candidate.recipe == sample.kind


def test_the_program_takes_any_batch_and_has_operators_of_pytorch_alone(sample):
    program = torch.export.load(sample.folder / "model.pt2")
    called = {str(n.target) for n in program.graph.nodes if n.op == "call_function"}
    assert {name.split(".")[0] for name in called} == {"aten"}
    twin = load_twin(str(sample.run), "net", sample.stored)
    predict = load_program(sample.folder / "model.pt2")
    images = torch.randn((5, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = twin(images).numpy()
    for count in (1, 2, 5):
        got = predict(images[:count].numpy())
        np.testing.assert_allclose(got, expected[:count], rtol=0, atol=1e-5)
    assert b"/src/" not in (sample.folder / "model.pt2").read_bytes()


def test_the_preprocessing_is_that_of_the_network(sample):
    found = json.loads((sample.folder / "preprocess.json").read_text())
    assert found["mean"] == found["std"] == [0.5, 0.5, 0.5]
    assert found["shape"] == [3, 16, 16]
    assert found["classes"] == ["0", "1", "2", "3"]


# the place


def test_the_folder_is_named_after_study_and_recipe(small_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = export_candidate(small_run, "chosen", images=5)
    assert found.path.as_posix() == f"exports/tiny/{found.candidate.recipe}"
    assert found.candidate.label == Results.load(small_run).decision.chosen
    assert [path.name for path in (tmp_path / "exports" / "tiny").iterdir()] == [found.path.name]


@pytest.mark.slow
def test_an_earlier_export_is_replaced(small_run, tmp_path):
    for images, compared in ((5, 5), (60_000, 60)):
        found = export_candidate(small_run, "int8", tmp_path / "out", images=images)
        assert manifest_of(found.path)["agreement"][0]["images"] == compared
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_else_stands_there_is_refused(sample, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(UsageError, match=r"file: must be a folder, got a file; choose another"):
        export_candidate(sample.run, sample.kind, file)
    place = tmp_path / "place"
    shutil.copytree(sample.folder, place)
    with pytest.raises(UsageError, match=f"export of net/baseline, got one of net/{sample.kind};"):
        export_candidate(sample.run, "baseline", place)
    (place / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=f"export of net/{sample.kind}, got 'notes.txt'; choose"):
        export_candidate(sample.run, sample.kind, place)
    (place / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match=r"got 'MODEL_CARD.md' and \d+ more; choose"):
        export_candidate(sample.run, sample.kind, place)
    assert (place / "notes.txt").read_text() == "mine"


def test_fewer_than_one_image_is_refused(small_run, tmp_path):
    with pytest.raises(UsageError, match="--images: must be 1 or more, got 0"):
        export_candidate(small_run, "int8", tmp_path / "out", images=0)


# names


def test_names_are_labels_keys_or_recipes(small_run):
    results = Results.load(small_run)
    wanted = find_candidate(results, "net/int8")
    assert wanted.recipe == "int8"
    assert find_candidate(results, "int8") == find_candidate(results, wanted.key) == wanted
    with pytest.raises(UnknownNameError, match=r"unknown candidate 'int9'; did you mean 'int8'"):
        find_candidate(results, "int9")


def fake(*labels, decision=None):
    candidates = [
        Candidate(key=label, model=m, recipe=r) for label in labels for m, r in [label.split("/")]
    ]
    store = SimpleNamespace(path="RUN")
    return SimpleNamespace(candidates=candidates, decision=decision, store=store)


def test_a_recipe_of_two_networks_must_say_which():
    results = fake("a/int8", "b/int8", "b/prune")
    with pytest.raises(UsageError, match="'int8' must name one candidate, got 2; write a/int8 or"):
        find_candidate(results, "int8")
    assert find_candidate(results, "prune").label == "b/prune"
    assert folder_name(results, results.candidates[0]) == "a-int8"


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        (None, "must have been chosen by rules, got a study without a 'select' section"),
        (SimpleNamespace(chosen=None), "must keep the rules of the study, got none that does"),
    ],
)
def test_chosen_needs_a_choice(decision, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        find_candidate(fake("a/int8", decision=decision), "chosen")


# candidates without files


def test_a_failed_candidate_is_refused_with_its_reason(run):
    results = Results.load(run)
    candidate = find_candidate(results, "int8")
    shutil.rmtree(run / "candidates" / candidate.key)
    with pytest.raises(ExportError, match="net/int8: must be prepared to be exported, got none"):
        folder_of(results, candidate)
    results.store.write_failure(
        candidate.key, Failure("ModelError", "conv1 is too small"), label=candidate.label
    )
    with pytest.raises(ExportError, match="got a failure: ModelError: conv1 is too small; remove"):
        export_candidate(run, "int8", run / "out")
    foreign = replace(candidate, key="0" * 16, recipe="npu")
    with pytest.raises(ExportError, match="net/npu: must have been made by this run"):
        folder_of(results, foreign)


# tampered files and moved data


def flipped(content, at):
    """The same bytes, but for one."""
    return content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.onnx", "model.onnx: must agree with the predictions of the run"),
        ("weights.safetensors", "weights.packed.safetensors: must hold the numbers of weights"),
    ],
)
def test_a_changed_file_is_refused_and_leaves_nothing(run, tmp_path, name, message):
    folder = stored(run, "channels0.5")
    state = load_twin(str(run), "net", folder).state_dict()
    # The last byte of a little-endian float has its sign and exponent.
    largest = state["8.weight"].abs().argmax()
    content = (folder / name).read_bytes()
    at = content.index(state["8.weight"].numpy().tobytes()) + 4 * int(largest) + 3
    (folder / name).write_bytes(flipped(content, at))
    if name == "model.onnx":
        with pytest.raises(ExportError, match="must be the file that was measured, with sha256"):
            export_candidate(run, "channels0.5", tmp_path / "out" / "here")
        facts = json.loads((folder / "complete.json").read_text())
        del facts["sha256"]  # as in runs made before it was noted
        (folder / "complete.json").write_text(json.dumps(facts))
    with pytest.raises(ExportError, match=message):
        export_candidate(run, "channels0.5", tmp_path / "out" / "here")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_of_another_length_is_refused(run, tmp_path):
    file = stored(run, "int8") / "model.onnx"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ExportError, match=r"must have [\d,]+ bytes as it was measured, got"):
        export_candidate(run, "int8", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_file_than_the_certified_one_is_refused(run, tmp_path):
    place = run / "certificates" / "abc" / "certificate.json"
    place.parent.mkdir(parents=True)
    entry = {"label": "net/int8", "sha256": "0" * 64}
    place.write_text(
        json.dumps({"made": "", "plan": "abc", "status": "valid", "candidates": [entry]})
    )
    with pytest.raises(ExportError, match=r"must be the certified file \(0{16}\), got"):
        export_candidate(run, "int8", tmp_path / "out")


@pytest.mark.slow
def test_missing_predictions_are_refused(run, tmp_path):
    shutil.rmtree(run / "predictions")
    with pytest.raises(ExportError, match="must hold its predictions under clean, got none"):
        export_candidate(run, "int8", tmp_path / "out")


@pytest.mark.slow
def test_an_earlier_export_survives_a_refused_one(run, tmp_path):
    export_candidate(run, "int8", tmp_path / "out", images=5)
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    shutil.rmtree(run / "predictions")
    with pytest.raises(ExportError):
        export_candidate(run, "int8", tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before


@pytest.mark.slow
def test_data_that_have_moved_are_asked_for_and_found_again(run, tmp_path):
    inputs = json.loads((run / "inputs.json").read_text())
    home = inputs["folder"]
    (run / "inputs.json").write_text(json.dumps({**inputs, "folder": str(tmp_path / "gone")}))
    with pytest.raises((DataError, ModelError), match="--root NAME=PATH"):
        export_candidate(run, "int8", tmp_path / "out")
    found = export_candidate(run, "int8", tmp_path / "out", roots={"study": home}, images=5)
    assert found.path.is_dir()


def test_places_of_the_environment_are_known(small_run, tmp_path, monkeypatch):
    monkeypatch.setenv("SHRINKPROOF_CIFAR10", str(tmp_path))
    results = Results.load(small_run)
    candidate = find_candidate(results, "baseline")
    assert open_source(results, candidate, {}).inputs.roots["cifar10"] == tmp_path
    own = {"cifar10": tmp_path / "own"}
    assert open_source(results, candidate, own).inputs.roots["cifar10"] == tmp_path / "own"


# the program


def test_a_program_that_cannot_be_written_is_missing_with_its_reason(run, tmp_path, monkeypatch):
    def refuse(module, shape, path):
        path.write_bytes(b"half")
        raise ExportError("Sequential: must be expressible, got a loop")

    monkeypatch.setattr(verification, "write_program", refuse)
    found = export_candidate(run, "int8", tmp_path / "out", images=5)
    assert found.missing == {"model.pt2": "Sequential: must be expressible, got a loop"}
    assert not (tmp_path / "out" / "model.pt2").exists()
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert "`model.pt2` was not written: Sequential: must be expressible, got a loop." in card


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "channels0.5"])
def test_a_program_that_answers_otherwise_is_left_out_or_refused(run, tmp_path, monkeypatch, kind):
    """Where PyTorch only imitates integers, the file is right and its imitation may be wrong."""

    def other(module, shape, path):
        wrong = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 4)).eval()
        write_program(wrong, shape, path)

    monkeypatch.setattr(verification, "write_program", other)
    monkeypatch.setattr(
        verification,
        "predict_with",
        lambda _: load_program(next(tmp_path.glob(".tmp-*/model.pt2"))),
    )
    if kind == "channels0.5":
        with pytest.raises(ExportError, match=r"must agree with the model.onnx \(logits within"):
            export_candidate(run, kind, tmp_path / "out")
        return
    found = export_candidate(run, kind, tmp_path / "out")
    assert "simulated integers give the class of model.onnx for only" in found.missing["model.pt2"]
    assert "model.pt2" not in found.files


def test_a_network_that_branches_on_a_number_has_no_program(tmp_path):
    class Branching(torch.nn.Module):
        def forward(self, inputs):
            return inputs if inputs.sum() > 0 else -inputs

    with pytest.raises(ExportError, match=r"Branching: must be expressible as a program"):
        write_program(Branching().eval(), (3, 4, 4), tmp_path / "model.pt2")


def test_a_damaged_program_is_refused(tmp_path):
    (tmp_path / "model.pt2").write_bytes(b"nothing")
    with pytest.raises(ExportError, match=r"model.pt2: must be a program of torch.export, got"):
        load_program(tmp_path / "model.pt2")
