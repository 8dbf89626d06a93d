"""An exported network run by its own runtime, in the place of a PyTorch module."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shrinkproof.detecting import Detections
from shrinkproof.errors import DataError, ModelError
from shrinkproof.models.box_outputs import BoxOutputs

_NO_WEIGHTS: Final = frozenset({np.dtype(np.int64), np.dtype(np.bool_)})
"""Types of shapes, indices and switches."""

_NUMBERS: Final = frozenset("fiu")
"""Kinds of numbers that PyTorch has, too."""


class OnnxNetwork(nn.Module):
    """A network of which only the exported file exists.

    Its forward runs the file with ONNX Runtime on the CPU, without gradients. The weights of the
    file are its parameters, so that they are counted and stored, but changing them changes
    nothing: it can be measured, not compressed.

    Args:
        path: the ``.onnx`` file, which holds its weights itself.
        outputs: names of the outputs to read; empty for the first.

    Raises:
        ModelError: the file cannot be read or run, or has no such outputs.
    """

    def __init__(self, path: Path, outputs: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.path = Path(path)
        self._session: Any = None
        for number, values in enumerate(_weights(self.path)):
            weight = nn.Parameter(torch.from_numpy(values), requires_grad=False)
            self.register_parameter(f"weight_{number}", weight)
        session = self._opened()
        known = [output.name for output in session.get_outputs()]
        inputs = [part.name for part in session.get_inputs()]
        if len(inputs) != 1 or not set(outputs) <= set(known):
            raise ModelError(
                f"{self.path}: must have one input and the outputs {', '.join(outputs)}, got the "
                f"inputs {', '.join(inputs)} and the outputs {', '.join(known)}; name the outputs "
                "of the file in 'boxes'"
            )
        self.names = outputs or (known[0],)
        self._input: str = inputs[0]
        first, *shape = session.get_inputs()[0].shape
        self._is_single = isinstance(first, int)
        is_known = all(isinstance(length, int) for length in shape) and len(shape) == 3
        self.input_shape = (shape[0], shape[1], shape[2]) if is_known else None
        if self._is_single and first != 1:
            raise ModelError(
                f"{self.path}: the batch size must be free or 1, got {first}; export it with a "
                "free batch size"
            )

    def use_size(self, input_shape: tuple[int, int, int]) -> None:
        """Take note of the shape (C, H, W) of one input."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the output asked for, float32, for images (n, C, H, W) float32."""
        found = [outputs[0] for outputs in self._outputs(images)]
        return torch.from_numpy(np.concatenate(found).astype(np.float32, copy=False))

    def _outputs(self, images: Tensor) -> Iterator[list[NDArray[Any]]]:
        """Yield the outputs for all images, or for one after the other where the file wants that.

        Raises:
            ModelError: the runtime refuses the images or fails.
        """
        values = images.detach().cpu().numpy()
        step = 1 if self._is_single else max(1, len(values))
        for start in range(0, len(values), step):
            try:
                yield self._opened().run(
                    list(self.names), {self._input: values[start : start + step]}
                )
            # The classes of its errors are no public ones; the cause is kept.
            except Exception as error:
                raise ModelError(
                    f"{self.path}: the runtime must accept images of shape {tuple(images.shape)} "
                    f"float32, got {type(error).__name__}: {_first_line(error)}; give the "
                    "'input_shape' that the file was exported for"
                ) from error

    def _opened(self) -> Any:
        """Return the session; it is made where it is needed, and never copied."""
        if self._session is None:
            self._session = _open(self.path, torch.get_num_threads())
        return self._session

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied and pickled: everything but the session."""
        return {**self.__dict__, "_session": None}


class OnnxDetector(OnnxNetwork):
    """An exported detector that chooses its boxes itself.

    The output has a row for each box, (n, m, 6): x1, y1, x2, y2 in pixels of the input, score,
    class. Images with fewer boxes than another have rows of score -1 behind, which are no boxes.

    Args:
        path: the file.
        boxes: what its outputs mean.
        classes: number of classes.

    Raises:
        ModelError: the file cannot be read or run, or has no such outputs.
    """

    def __init__(self, path: Path, boxes: BoxOutputs, classes: int) -> None:
        super().__init__(path, boxes.names)
        self._boxes = boxes
        self._classes = classes
        self._sides = (1.0, 1.0)

    @property
    def num_classes(self) -> int:
        """Number of classes of objects."""
        return self._classes

    @property
    def rule(self) -> str:
        """How boxes are chosen, for readers."""
        return "the exported file chooses the boxes itself"

    def use_size(self, input_shape: tuple[int, int, int]) -> None:
        """Take note of the shape (C, H, W) of one input."""
        self._sides = (float(input_shape[2]), float(input_shape[1]))

    def forward(self, images: Tensor) -> Tensor:
        """Return the boxes of images (n, C, H, W) float32, (n, m, 6) float32."""
        rows: list[NDArray[np.float32]] = []
        for boxes, scores, labels in self._by_image(images):
            corners = _corners(boxes, self._boxes.format)
            if self._boxes.is_normalized:
                corners = corners * np.array([*self._sides, *self._sides])
            rows.append(np.column_stack([corners, scores, labels]).astype(np.float32))
        found = np.zeros((len(rows), max(map(len, rows), default=0), 6), dtype=np.float32)
        found[..., 4] = -1
        for image, own in zip(found, rows, strict=True):
            image[: len(own)] = own
        return torch.from_numpy(found)

    def _by_image(self, images: Tensor) -> Iterator[tuple[NDArray[Any], ...]]:
        """Yield boxes (m, 4), scores (m,) and labels (m,) of each image.

        Raises:
            ModelError: the outputs are not as many rows each, for each image.
        """
        if not self._is_single and len(images) > 1 and not self._has_images():
            for image in images.split(1):
                yield from self._by_image(image)
            return
        for outputs in self._outputs(images):
            boxes, scores, labels = (np.asarray(part) for part in outputs)
            if boxes.ndim == 2:
                boxes, scores, labels = boxes[None], scores[None], labels[None]
            if boxes.shape != (*scores.shape, 4) or scores.shape != labels.shape:
                raise ModelError(
                    f"{self.path}: outputs must be boxes (m, 4), scores (m,) and labels (m,), with "
                    f"or without images in front, got {boxes.shape}, {scores.shape} and "
                    f"{labels.shape}; name them in 'boxes' of the model"
                )
            yield from zip(boxes, scores, labels, strict=True)

    def _has_images(self) -> bool:
        """Return whether the boxes of several images have an axis for them."""
        shapes = {output.name: output.shape for output in self._opened().get_outputs()}
        return len(shapes[self._boxes.boxes]) == 3

    def decode(self, outputs: NDArray[np.float32]) -> list[Detections]:
        """Return what was found in each image, from the output (n, m, 6).

        Raises:
            DataError: a label is none of a class.
        """
        return [self._found(rows) for rows in outputs]

    def _found(self, rows: NDArray[np.float32]) -> Detections:
        # NaN is kept: whoever reads the scores refuses it.
        rows = rows[~(rows[:, 4] < 0)]
        label = rows[:, 5].astype(np.int64) - self._boxes.first_label
        if (label >= self._classes).any():
            raise DataError(
                f"{self.path}: labels must be below {self._classes + self._boxes.first_label}, got "
                f"{int(label.max()) + self._boxes.first_label}; correct 'classes' or "
                "'first_label' of the model"
            )
        kept = label >= 0
        return Detections(boxes=rows[kept, :4], score=rows[kept, 4], label=label[kept])


def _corners(boxes: NDArray[Any], layout: str) -> NDArray[np.float64]:
    """Return boxes (m, 4) as x1, y1, x2, y2."""
    found = boxes.astype(np.float64)
    if layout == "xyxy":
        return found
    sides = found[:, 2:]
    first = found[:, :2] - (0.5 * sides if layout == "cxcywh" else 0.0)
    return np.concatenate([first, first + sides], axis=1)


def _weights(path: Path) -> Iterator[NDArray[Any]]:
    """Yield the weights of a file; single numbers, shapes and indices are none.

    Raises:
        ModelError: the file is no network, or keeps its weights in another file.
    """
    import onnx
    from onnx import numpy_helper

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    # A damaged file fails in any way; the cause is kept.
    except Exception as error:
        raise ModelError(
            f"{path}: must be an ONNX file, got {type(error).__name__}: {_first_line(error)}"
        ) from error
    constants = [
        attribute.t
        for node in graph.node
        for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value"
    ]
    for tensor in (*graph.initializer, *constants):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelError(
                f"{path}: must hold its weights itself, but {tensor.name} is in another file; save "
                "it again with onnx.save(model, path, save_as_external_data=False)"
            )
        values = np.array(numpy_helper.to_array(tensor))
        if values.dtype not in _NO_WEIGHTS and values.ndim and values.size:
            yield _readable(values)


def _readable(values: NDArray[Any]) -> NDArray[Any]:
    """Return numbers in a type of NumPy itself: PyTorch does not know the small ones of ONNX."""
    if values.dtype.kind in _NUMBERS and values.dtype.isbuiltin == 1:
        return values
    whole = values.astype(np.int8)
    return whole if (whole == values).all() else values.astype(np.float32)


def _open(path: Path, threads: int) -> Any:
    # Official builds send names of networks to their maker unless this is set before the import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    # The classes of its errors are no public ones; the cause is kept.
    except Exception as error:
        raise ModelError(
            f"{path}: the runtime must be able to load the file, got {type(error).__name__}: "
            f"{_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"
