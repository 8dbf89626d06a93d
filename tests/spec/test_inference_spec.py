import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shrinkproof.errors import SpecError
from shrinkproof.spec import load_study_spec
from shrinkproof.spec.inference import InferenceSpec, auto_batch

HEAD = """\
study: s
models: {m: "import:net:make"}
data: {report: digits}
"""


def _inference(text, *, form="twin"):
    measure = f"measure: {{form: {form}, inference: {text}}}\n"
    return load_study_spec(HEAD + measure).measure.inference


def _problem(text, *, form="twin", head=HEAD):
    with pytest.raises(SpecError) as caught:
        load_study_spec(f"{head}measure: {{form: {form}, inference: {text}}}\n")
    (problem,) = caught.value.problems
    return problem


def test_a_study_that_says_nothing_runs_as_studies_always_did():
    assert load_study_spec(HEAD).measure.inference == InferenceSpec()
    assert InferenceSpec().is_exact
    assert InferenceSpec().parts("artifact") == {}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ""),
        ({"memory_format": "contiguous"}, ""),
        ({"device": "cuda"}, "networks run on a GPU"),
        ({"precision": "bfloat16"}, "PyTorch networks run in bfloat16"),
        ({"compile": True}, "PyTorch networks run compiled"),
        (
            {"device": "cuda", "precision": "float16", "compile": True},
            "networks run on a GPU, those of PyTorch in float16 and compiled",
        ),
    ],
)
def test_another_arithmetic_than_float32_on_the_cpu_is_told(settings, expected):
    told = ": numbers may differ from those of float32 on the CPU"
    assert InferenceSpec(**settings).caveat == (expected + told if expected else "")


def test_settings_are_read():
    found = _inference("{precision: bfloat16, compile: true, memory_format: contiguous}")
    assert (found.precision, found.compile, found.memory_format) == ("bfloat16", True, "contiguous")
    assert not found.is_exact


@pytest.mark.parametrize(
    ("text", "form", "expected"),
    [
        ("{precision: half}", "twin", "measure.inference.precision: must be"),
        ("{device: tpu}", "twin", "measure.inference.device: must be"),
        ("{precisoin: bfloat16}", "twin", "did you mean 'precision'?"),
        ("{precision: float16}", "twin", "precision float16 must be on device cuda, got cpu"),
        ("{precision: bfloat16}", "auto", "measure.inference.precision: must be left out"),
        ("{compile: true}", "artifact", "write 'form: twin'"),
        ("{memory_format: contiguous}", "artifact", "measure.inference.memory_format: must be"),
    ],
)
def test_what_cannot_be_is_refused(text, form, expected):
    assert expected in _problem(text, form=form)


def test_a_device_is_for_files_and_networks():
    assert _inference("{device: cuda}", form="artifact").device == "cuda"
    assert _inference("{device: cuda, precision: float16}").precision == "float16"


def test_models_that_came_as_files_run_as_they_are():
    head = HEAD.replace("import:net:make", "onnx:net.onnx")
    assert "models that are exported files, got m" in _problem("{precision: bfloat16}", head=head)


def test_only_what_differs_from_float32_of_contiguous_networks_is_in_a_key():
    assert InferenceSpec(memory_format="contiguous").parts("twin") == {}
    assert InferenceSpec().parts("twin") == {"inference": {"memory_format": "channels_last"}}
    chosen = InferenceSpec(device="cuda", precision="float16", compile=True)
    assert chosen.parts("artifact") == {"inference": {"device": "cuda"}}
    assert chosen.parts("twin") == {
        "inference": {
            "device": "cuda",
            "precision": "float16",
            "compile": True,
            "memory_format": "channels_last",
        }
    }


def test_the_word_auto_is_the_layout_that_it_stands_for():
    written = InferenceSpec(memory_format="channels_last")
    assert written.parts("twin") == InferenceSpec().parts("twin")


def test_a_wrong_combination_is_refused_in_python():
    with pytest.raises(pydantic.ValidationError, match="float16 must be on device cuda"):
        InferenceSpec(precision="float16")


@pytest.mark.parametrize(
    ("side", "cpu", "cuda"),
    [
        *((side, 256, 1024) for side in (8, 32, 64)),
        *((65, 128, 1024), (96, 64, 1024), (224, 16, 256), (299, 8, 128)),
        *((640, 2, 32), (1024, 1, 16), (5000, 1, 1)),
    ],
)
def test_a_batch_has_at_most_a_million_pixels_on_a_cpu(side, cpu, cuda):
    assert (auto_batch(side * side, "cpu"), auto_batch(side * side, "cuda")) == (cpu, cuda)


@given(pixels=st.integers(1, 10**9), device=st.sampled_from(["cpu", "cuda"]))
def test_a_batch_is_a_power_of_two_that_falls_with_the_size(pixels, device):
    found = auto_batch(pixels, device)
    assert found >= 1
    assert found & (found - 1) == 0
    assert auto_batch(2 * pixels, device) <= found
