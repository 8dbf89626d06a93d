"""The PyTorch form of a candidate, loaded in any process."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from shrinkproof.store import Store
from shrinkproof.study.inputs import Inputs

if TYPE_CHECKING:
    from torch import nn

    from shrinkproof.models.loaded import LoadedModel


def load_twin(run: str, model: str, folder: Path) -> nn.Module:
    """Return a candidate as a PyTorch network in evaluation mode.

    Args:
        run: the run directory.
        model: name of the model in the study.
        folder: the candidate's directory.

    Raises:
        ModelError: a file is missing or does not fit the model.
    """
    from shrinkproof.artifacts.candidate import load_candidate

    return load_candidate(folder, _base(run, model).module)


@functools.lru_cache(maxsize=1)
def _base(run: str, model: str) -> LoadedModel:
    """Return the uncompressed model; the candidates of one model are loaded in a row."""
    from shrinkproof.models.reference import load_model

    inputs = Inputs.from_json(Store(Path(run)).read_json("inputs.json"))
    return load_model(inputs.spec.models[model], inputs.places)
