"""The detector of a user's own that comes with the studies: adapter, published numbers, study."""

from __future__ import annotations

import os
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shrinkproof.data.imageset import ImageSet
from shrinkproof.data.reading import load_images
from shrinkproof.detecting import LearnsBoxes, ScoresBoxes
from shrinkproof.errors import DataError, ModelError
from shrinkproof.evaluators.answers import BoxAnswers
from shrinkproof.metrics import METRICS
from shrinkproof.models.assembly import assemble
from shrinkproof.models.loaded import LoadedModel, Preprocess
from shrinkproof.models.reference import ModelSpec, load_model
from shrinkproof.study import Study
from shrinkproof.tasks import Detection

STUDIES = Path(__file__).resolve().parents[2] / "studies"
DOCS = Path(__file__).resolve().parents[2] / "docs"
DATA = Path(
    os.environ.get("SHRINKPROOF_DEV_DATA") or Path(__file__).resolve().parents[2] / "../shared/data"
)
SHAPE = (3, 352, 352)
PREPROCESS = Preprocess(size=(352, 352))
CELL = 22
CELLS = CELL * CELL


def loaded(use: str, **settings) -> LoadedModel:
    spec = ModelSpec(use=use, preprocess=PREPROCESS, input_shape=SHAPE, **settings)
    return load_model(spec, {"study": STUDIES, "weights": DATA / "checkpoints"})


@pytest.fixture(scope="module")
def untrained() -> LoadedModel:
    return loaded("import:fastestdet:build")


@pytest.fixture(scope="module")
def published() -> LoadedModel:
    if not (DATA / "checkpoints").is_dir():
        pytest.skip("development data are absent: no published checkpoints")
    return loaded("checkpoint:coco_fastestdet_352.safetensors", arch="import:fastestdet:build")


@pytest.fixture(scope="module")
def coco128() -> ImageSet:
    if not (DATA / "detection" / "coco128").is_dir():
        pytest.skip("development data are absent: no coco128")
    return load_images("coco:coco128/instances.json", {"study": DATA / "detection"})


def smoothly_resized(images: ImageSet) -> np.ndarray:
    """Return the inputs that the published numbers were measured on: Pillow's bilinear filter."""
    found = []
    for position in np.arange(len(images))[:, None]:
        image = Image.fromarray(images.images[position][0])
        found.append(np.asarray(image.resize((352, 352), Image.Resampling.BILINEAR)))
    return PREPROCESS(np.stack(found))


def outputs_of(module: torch.nn.Module, inputs: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found = [module(torch.from_numpy(part)).numpy() for part in np.array_split(inputs, 8)]
    return np.concatenate(found)


class Yolo(torch.nn.Module):
    """Two boxes of one object and one of another class, whatever the image."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        columns = [
            [50, 40, 20, 10, 0.9, 0, 0],
            [51, 40, 20, 10, 0.8, 0, 0],
            [9, 9, 6, 6, 0, 0, 0.3],
        ]
        return torch.tensor(columns).T.expand(len(images), 7, 3) + self.bias


def test_the_adapter_of_the_documentation_works():
    code = (DOCS / "detection.md").read_text().split("```python\n")[1].partition("```")[0]
    names: dict[str, type[torch.nn.Module]] = {}
    exec(code, names)
    adapter = names["Adapter"](Yolo())
    settings = ModelSpec(use="import:mydetector:build", preprocess=PREPROCESS)
    model = assemble(
        adapter, settings, preprocess=PREPROCESS, input_shape=SHAPE, fingerprint="adapter"
    )
    assert model.num_classes == 3
    assert model.detector is not None
    with torch.no_grad():
        outputs = model.module(torch.zeros(2, *SHAPE)).numpy()
    for found in model.detector.decode(outputs):
        np.testing.assert_allclose(found.boxes, [[40, 35, 60, 45], [6, 6, 12, 12]])
        assert found.label.tolist() == [0, 2]
        assert found.place is not None
        assert found.place.tolist() == [0, 2]


def test_the_adapter_is_a_detector_that_explains_and_does_not_learn(untrained):
    assert untrained.detector is not None
    assert untrained.num_classes == 80
    assert sum(p.numel() for p in untrained.module.parameters()) == 244_490
    assert isinstance(untrained.module, ScoresBoxes)
    assert not isinstance(untrained.module, LearnsBoxes)
    with pytest.raises(ModelError, match="must have a method loss"):
        Detection.of(untrained.module).loss(torch.zeros(1, CELLS, 85), [])


def test_boxes_of_a_cell_by_hand(untrained):
    outputs = np.full((1, CELLS, 85), -20, dtype=np.float32)
    place = 3 * CELL + 5
    outputs[0, place, :5] = [0, 0, np.arctanh(0.5), 0, np.log(1 / 3)]
    outputs[0, place, 5 + 7] = 20
    (found,) = untrained.detector.decode(outputs)
    # Column 5 and half a cell downwards from row 3; half and a quarter of the image.
    center, half = np.array([5 * 16, 3.5 * 16]), np.array([352 / 4, 352 / 8])
    np.testing.assert_allclose(found.boxes[0], [*(center - half), *(center + half)], rtol=1e-5)
    assert found.label[0] == 7
    assert found.place is not None
    assert found.place[0] == place
    assert found.score[0] == pytest.approx(0.5**0.6, rel=1e-5)


def test_outputs_that_are_not_finite_are_refused(untrained):
    with pytest.raises(DataError, match="finite"):
        untrained.detector.decode(np.full((1, CELLS, 85), np.nan, dtype=np.float32))


@pytest.mark.parity
def test_published_weights_give_the_reference_outputs(published, coco128):
    inputs = smoothly_resized(coco128.take(np.array([0])))
    outputs = outputs_of(published.module, inputs)[0].T.reshape(85, CELL, CELL)
    expected = np.load(DATA / "checkpoints" / "reference_outputs.npz")["coco_fastestdet_352"][0]
    scores = torch.from_numpy(outputs)
    outputs = torch.cat([scores[:1].sigmoid(), scores[1:5], scores[5:].softmax(0)]).numpy()
    np.testing.assert_allclose(outputs, expected, atol=1e-4)


@pytest.mark.parity
@pytest.mark.slow
def test_published_weights_have_the_stated_precision_on_coco128(published, coco128):
    """17.5, 32.1 and 17.3 were measured on boxes that reach beyond the image."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    sizes = coco128.objects.sizes
    outputs = outputs_of(published.module, smoothly_resized(coco128))
    with redirect_stdout(StringIO()):
        truth = coco.COCO(str(DATA / "detection" / "coco128" / "instances.json"))
        ids, images = sorted(truth.cats), [entry["id"] for entry in truth.dataset["images"]]
        found = []
        for image, each in enumerate(published.detector.decode(outputs)):
            boxes = PREPROCESS.to_image(each.boxes, tuple(sizes[image].tolist())).astype(float)
            boxes[:, 2:] -= boxes[:, :2]
            found += [
                {"image_id": images[image], "category_id": ids[c], "bbox": box, "score": score}
                for box, c, score in zip(
                    boxes.tolist(), each.label, each.score.tolist(), strict=True
                )
            ]
        judged = evaluation.COCOeval(truth, truth.loadRes(found), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    np.testing.assert_allclose(judged.stats[:3], [0.175, 0.321, 0.173], atol=6e-4)


@pytest.mark.slow
def test_precision_as_a_study_measures_it_is_no_lower(published, coco128):
    answers = BoxAnswers(coco128, published.detector, PREPROCESS)
    for positions, images in coco128.batches(8):
        with torch.no_grad():
            outputs = published.module(torch.from_numpy(PREPROCESS(images))).numpy()
        answers.add(positions, outputs, images.shape[1:3])
    predictions = answers.predictions()
    # OpenCV's filter, on which the network was trained, and boxes cut at the edge of the image.
    assert METRICS.get("detection.ap")()(predictions) == pytest.approx(0.1945, abs=2e-3)
    assert METRICS.get("detection.ap50")()(predictions) == pytest.approx(0.3217, abs=2e-3)


def test_the_study_says_that_its_images_were_seen(tmp_path, published, coco128):
    assert published
    assert len(coco128) == 128
    for name in ("coco128-fastestdet.yaml", "fastestdet.py"):
        shutil.copy(STUDIES / name, tmp_path)
    (tmp_path / "coco128").symlink_to((DATA / "detection" / "coco128").resolve())
    roots = {"weights": DATA / "checkpoints"}
    plan = Study.load(tmp_path / "coco128-fastestdet.yaml", roots=roots).plan()
    assert set(plan.contamination["fastestdet"]) == {"select", "report"}
