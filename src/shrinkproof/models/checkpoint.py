"""References ``checkpoint:PATH``: weights in a file, loaded into a named architecture."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from shrinkproof.errors import ModelError
from shrinkproof.models.architecture import architectures
from shrinkproof.models.loaded import LoadedModel
from shrinkproof.models.reference import ModelSpec, identity, need_input_shape, need_preprocess
from shrinkproof.registry import component


def locate(path: str, roots: Mapping[str, Path]) -> Path:
    """Return the file of a checkpoint; relative ones from the study's folder, then ``weights``.

    Raises:
        ModelError: there is no such file; names every place that was tried.
    """
    place = Path(path).expanduser()
    # An absolute path stays itself when it is joined to a folder.
    tried = [roots.get("study", Path()) / place]
    if not place.is_absolute() and "weights" in roots:
        tried.append(roots["weights"] / place)
    for candidate in tried:
        if candidate.is_file():
            return candidate
    advice = "; correct the path"
    if not place.is_absolute():
        named = "" if "weights" in roots else " (no folder of weights is named)"
        advice = f"{named}; correct the path, or say where it lies with --root weights=FOLDER or "
        advice += "SHRINKPROOF_WEIGHTS=FOLDER"
    raise ModelError(
        f"model 'checkpoint:{path}': the file must exist, found no file "
        f"{' and no file '.join(repr(str(candidate)) for candidate in tried)}{advice}"
    )


@component
class Checkpoint:
    """Weights from a file, in the architecture that ``arch`` names.

    The file is .safetensors, or a state dict in .pt or .pth.

    Nothing in the file is executed: safetensors holds only tensors, and pickled files are read
    with ``weights_only``. A file that needs more is refused.
    """

    name: ClassVar[str] = "checkpoint"

    def fingerprint(self, rest: str, settings: ModelSpec, roots: Mapping[str, Path]) -> str:
        """Return the identity of the model without importing torch.

        It covers the bytes of the file and the architecture, not where the file lies.

        Raises:
            UnknownNameError: the architecture's scheme or name is not known.
            ModelError: the file is missing, or a needed setting.
        """
        need_preprocess(settings)
        source, name = architectures(settings.arch, settings.use)
        with locate(rest, roots).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        arch = {"scheme": source.name, **source.arch_identity(name, roots)}
        return identity(settings, {"sha256": digest, "arch": arch})

    def load(self, rest: str, settings: ModelSpec, roots: Mapping[str, Path]) -> LoadedModel:
        """Return the architecture with the weights of the file.

        Raises:
            UnknownNameError: the architecture's scheme or name is not known.
            ModelError: the file is missing, broken, needs code to be read, or does not fit the
                architecture.
        """
        from shrinkproof.models.assembly import assemble
        from shrinkproof.models.weights import fill, read

        preprocess = need_preprocess(settings)
        source, name = architectures(settings.arch, settings.use)
        input_shape = need_input_shape(settings, source.arch_input_shape)
        path = locate(rest, roots)
        module = fill(source, name, read(path), settings, path, roots)
        return assemble(
            module,
            settings,
            preprocess=preprocess,
            input_shape=input_shape,
            fingerprint=self.fingerprint(rest, settings, roots),
        )
