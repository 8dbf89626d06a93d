"""The network that a demo compresses: trained on the train split of its study."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shrinkproof.training.settings import Training

if TYPE_CHECKING:
    from shrinkproof.store import Store
    from shrinkproof.study import Study
    from shrinkproof.study.progress import Progress


@dataclass(frozen=True, slots=True)
class Baseline:
    """A model of a study that is a checkpoint which the demo itself trains.

    Attributes:
        model: its name in the study.
        file: name of its weights beside the study file.
        training: how it is trained.
        threads: threads of the training; None for torch's own choice.
    """

    model: str
    file: str
    training: Training
    threads: int | None = None

    def train(self, study: Study, store: Store, progress: Progress) -> None:
        """Train the network and write its weights; nothing where they are there."""
        import torch
        from safetensors.torch import save

        from shrinkproof import randomness
        from shrinkproof.models.reference import load_model
        from shrinkproof.protocols import Context
        from shrinkproof.tasks import TASKS
        from shrinkproof.training.feed import ImageFeed

        if (store.path / self.file).is_file():
            return
        start = time.perf_counter()
        progress.begin("train", self.training.epochs)
        spec = study.spec.models[self.model]
        untrained = replace(spec, use=spec.arch, arch="")
        model = load_model(untrained, {})
        context = Context(
            task=TASKS.get(study.spec.task).of(model.module),
            example=torch.zeros((1, *model.input_shape)),
            device=torch.device("cpu"),
            training=ImageFeed(study.inputs.splits(["train"]).sets["train"], model.preprocess),
            stream=functools.partial(randomness.stream, "demo"),
            note=lambda values: progress.advance(f"epoch {values['epoch']}"),
        )
        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads or threads)
        try:
            self.training.run(model.module, context)
        finally:
            torch.set_num_threads(threads)
        weights = {name: tensor.contiguous() for name, tensor in model.module.state_dict().items()}
        store.write_bytes(store.path / self.file, save(weights))
        progress.end("train", time.perf_counter() - start)
