"""References ``onnx:FILE``: networks of which only the exported file exists."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from shrinkproof.errors import ModelError
from shrinkproof.models.checkpoint import locate
from shrinkproof.models.loaded import LoadedModel
from shrinkproof.models.reference import ModelSpec, identity, need_input_shape, need_preprocess
from shrinkproof.records import Json
from shrinkproof.registry import component, fields_of


@component
class Onnx:
    """A classifier or detector in an ONNX file, to be measured as it is.

    A classifier's first output is its logits. A detector chooses its boxes itself and has three
    outputs, which ``boxes`` of the model describes; it needs ``classes``. The file holds its
    weights itself, and its batch size is free or 1. The exported form of the candidate is the file.
    """

    name: ClassVar[str] = "onnx"

    def fingerprint(self, rest: str, settings: ModelSpec, roots: Mapping[str, Path]) -> str:
        """Return the identity of the model; it covers the bytes of the file, not where it lies.

        Raises:
            ModelError: the file is missing, or a needed setting.
        """
        need_preprocess(settings)
        with _locate(rest, roots).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        boxes: Json | None = None if settings.boxes is None else fields_of(settings.boxes)
        return identity(settings, {"sha256": digest, "boxes": boxes})

    def load(self, rest: str, settings: ModelSpec, roots: Mapping[str, Path]) -> LoadedModel:
        """Return a module that runs the file.

        Raises:
            ModelError: the file is missing, is no network that the runtime can run, or does not do
                what the settings say.
        """
        from shrinkproof.models.assembly import assemble
        from shrinkproof.models.onnx_network import OnnxDetector, OnnxNetwork

        preprocess = need_preprocess(settings)
        path = _locate(rest, roots)
        if settings.boxes is None:
            module = OnnxNetwork(path)
        else:
            if settings.classes is None:
                raise ModelError(
                    f"model {settings.use!r}: 'classes' must be the number of classes of a "
                    "detector, got none; the file does not tell it"
                )
            module = OnnxDetector(path, settings.boxes, settings.classes)
        input_shape = need_input_shape(settings, module.input_shape)
        module.use_size(input_shape)
        return assemble(
            module,
            settings,
            preprocess=preprocess,
            input_shape=input_shape,
            fingerprint=self.fingerprint(rest, settings, roots),
        )


def _locate(rest: str, roots: Mapping[str, Path]) -> Path:
    try:
        return locate(rest, roots)
    except ModelError as error:
        raise ModelError(str(error).replace("'checkpoint:", "'onnx:", 1)) from None
