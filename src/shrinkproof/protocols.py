"""The contracts of the open sets, on one page.

A plugin needs no base class from us: a class with these members, one entry point, and one call of
the conformance check in ``shrinkproof.testing``. Every member class is a ``component`` (see
``registry``): a frozen, keyword-only dataclass whose fields are exactly the keys of the study file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, Flag, auto
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    Protocol,
    TypeAlias,
    TypeVar,
    runtime_checkable,
)

from shrinkproof.records import Change, Condition, Failure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, device, nn

A = TypeVar("A")
B = TypeVar("B")
P = TypeVar("P", contravariant=True)


Target: TypeAlias = "Tensor | Sequence[Mapping[str, Tensor]]"
"""What is true of a batch: classes (n,) int64, or for each image ``boxes`` (g, 4) and ``labels``
(g,) in pixels of the network's input."""


class Needs(Flag):
    """What a step must be given besides the model."""

    NOTHING = 0
    CALIBRATION = auto()
    TRAINING = auto()
    VALIDATION = auto()
    TEACHER = auto()


class Role(Enum):
    """What a step is for: to make the model smaller, or to let it recover."""

    COMPRESS = "compress"
    RECOVER = "recover"


class Better(Enum):
    """Which direction of a metric is better."""

    HIGHER = "higher"
    LOWER = "lower"
    NONE = "none"


class Feed(Protocol):
    """Images of one split as preprocessed tensors."""

    @property
    def count(self) -> int:
        """Number of images."""
        ...

    def batches(
        self,
        size: int,
        *,
        order: NDArray[np.int64] | None = None,
        augment: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
    ) -> Iterator[tuple[Tensor, Target]]:
        """Yield ``(inputs (n, C, H, W) float32, target)``, in ``order`` if given.

        ``augment`` changes the uint8 images (n, H, W, 3) before preprocessing; where images have
        boxes it also has ``with_boxes(image, boxes)``.
        """
        ...


class Task(Protocol):
    """What classification and detection do differently; nothing else asks which one it is."""

    name: ClassVar[str]

    def loss(self, outputs: Tensor, target: Any, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean training loss of a batch, a scalar."""
        ...


def ignore_note(values: Mapping[str, Any]) -> None:
    """Drop a progress note."""


class Probe(Protocol):
    """Measures what a model costs once it is exported, for steps that work towards a target."""

    def bytes(self, model: nn.Module, changes: Sequence[Change]) -> int:
        """Return the size of the model's exported file in bytes."""
        ...

    def latency(self, model: nn.Module, changes: Sequence[Change]) -> float:
        """Return the median time of one inference of the exported file, divided by the original's.

        One image, one thread, both taking turns.
        """
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """What a step may use; a step declares in ``needs`` which parts must not be None.

    Attributes:
        task: the loss.
        example: one preprocessed input, (1, C, H, W) float32.
        calibration: images for observers and statistics.
        training: images for fine-tuning.
        validation: images that decide when training stops; never the ones that are reported.
        teacher: the model as it was before the recipe, frozen, in evaluation mode; a recipe fills
            it in.
        device: where the model lives.
        stream: named parts -> an independent ``numpy.random.Generator``; no global seeds.
        note: receives progress and history as plain JSON values; steps never print.
        scratch: folder of this step for what lets it go on after a kill; None where nothing is
            kept. The step makes it, and whoever gave it removes it when the recipe is done.
        probe: measures size and speed of exported files; None where nobody can.
        changes: what the steps before this one did; a recipe fills it in.
        trained: how many trainings the recipe has had before this one; a recipe fills it in.
        schedule: ``stream`` of all trainings of a recipe, so that a candidate and its dense control
            see the images in the same order; a recipe fills it in, None takes ``stream``.
    """

    task: Task
    example: Tensor
    device: device
    stream: Callable[..., np.random.Generator]
    calibration: Feed | None = None
    training: Feed | None = None
    validation: Feed | None = None
    teacher: nn.Module | None = None
    note: Callable[[Mapping[str, Any]], None] = field(default=ignore_note)
    scratch: Path | None = None
    probe: Probe | None = None
    changes: tuple[Change, ...] = ()
    trained: int = 0
    schedule: Callable[..., np.random.Generator] | None = None

    def draw_training(self, *parts: str | int) -> np.random.Generator:
        """Return the random generator for a part of the training at hand."""
        if self.schedule is None:
            return self.stream(*parts)
        return self.schedule(self.trained, *parts)


class Compressor(Protocol):
    """One step of a recipe: prune, quantize, cluster, train, or recalibrate.

    A class may say in ``makes`` what it leaves in the weights, and in ``destroys`` what it cannot
    follow, both ``ClassVar[frozenset[str]]``: ``zeros``, ``levels`` (few shared values), ``grid``
    (a shorter number format), ``folded`` (batch norms merged into the layers before them). An
    order of steps that cannot work is then found before anything is computed; steps that do not
    touch each other's layers (fields ``include`` and ``exclude``) go in any order.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    role: ClassVar[Role]

    @property
    def needs(self) -> Needs:
        """What must be in the context; may depend on the settings."""
        ...

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, Change]:
        """Edit the given private copy; return it and a JSON account of what was done."""
        ...

    def restore(self, model: nn.Module, change: Change) -> nn.Module:
        """Repeat the structural part of a recorded change on a fresh model, without data."""
        ...


@runtime_checkable
class Trains(Protocol):
    """A step that makes a model smaller and trains it meanwhile."""

    @property
    def recovery(self) -> tuple[Compressor, ...]:
        """The steps of equal training without compression: what a dense control runs instead."""
        ...


class Criterion(Protocol):
    """Score single weights; the lowest scores go first."""

    name: ClassVar[str]
    version: ClassVar[int]

    @property
    def needs(self) -> Needs:
        """What must be in the context."""
        ...

    def scores(
        self, model: nn.Module, layers: Sequence[str], context: Context
    ) -> Mapping[str, Tensor]:
        """Return for each named layer scores of the shape of its ``weight``, finite.

        The model is in evaluation mode and stays as it is. Weights may obey constraints; what
        counts is the value that the network uses (``constraint.weight_of``).
        """
        ...


class ChannelCriterion(Protocol):
    """Score the output channels of layers; the lowest scores go first.

    ``comparable`` says whether scores of different layers are on one scale; where they are not, a
    global ranking divides them by the mean of their layer.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    comparable: ClassVar[bool]

    @property
    def needs(self) -> Needs:
        """What must be in the context."""
        ...

    def scores(
        self, model: nn.Module, layers: Sequence[str], context: Context
    ) -> Mapping[str, Tensor]:
        """Return for each named layer one score per output channel, (out,), finite, >= 0.

        The model is in evaluation mode and stays as it is. A layer for which the criterion is not
        defined (batch-norm scale without a batch norm) is left out. What belongs in the account of
        the step goes to ``context.note({"criterion": name, ...})``.
        """
        ...


class Draws(Protocol):
    """Independent random generators, one for each image of a batch."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def each(self) -> Iterator[np.random.Generator]:
        """Yield the generator of each image, in order."""
        ...

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return the first raw words of each image's generator, (N, count) uint64; fast."""
        ...


class Corruption(Protocol):
    """A natural degradation of images."""

    name: ClassVar[str]
    family: ClassVar[str]
    version: ClassVar[int]

    def draw(
        self, streams: Draws, shape: tuple[int, int], severity: int, preset: str
    ) -> Mapping[str, NDArray[Any]]:
        """Draw all randomness of a batch of images of height and width ``shape``."""
        ...

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return corrupted images; (N, H, W, 3) uint8 in and out, severity 1 to 5."""
        ...


@dataclass(frozen=True, slots=True)
class Undefined:
    """A number that does not exist for this input.

    Attributes:
        reason: why, in one sentence.
    """

    reason: str


class Metric(Protocol[P]):
    """A number computed from the predictions of one condition.

    ``is_fast`` says that a value with its interval costs no more than sums over images: such
    metrics are computed while images are evaluated, all others afterwards from stored predictions.
    A metric may have a method ``caveat(predictions) -> str``: what a reader must know about this
    value, empty for nothing.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    unit: ClassVar[str]
    better: ClassVar[Better]
    range: ClassVar[tuple[float, float]]
    is_fast: ClassVar[bool]

    def __call__(self, predictions: P) -> float | Undefined:
        """Return the value, or why it is undefined; ``nan`` is undefined for want of images."""
        ...

    def terms(self, predictions: P) -> Any:
        """Return the per-image ``statistics.Terms``, or None where the metric has none.

        Terms give an interval at the cost of one matrix product.
        """
        ...


class Explained(Protocol):
    """What heat maps are made of: a candidate, as a network or only by what it predicts."""

    @property
    def module(self) -> nn.Module | None:
        """The network; None where only predictions can be had (ONNX, integers)."""
        ...

    @property
    def layer(self) -> str | None:
        """Name of the layer to look at; None lets the method choose one."""
        ...

    @property
    def black(self) -> NDArray[np.float32]:
        """A black pixel as the network is given it, (C,) float32."""
        ...

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits (n, classes) of inputs (n, C, H, W), both float32."""
        ...


class Attribution(Protocol):
    """A heat map per image: how much each place of it counts for one class.

    ``needs`` says what the candidate must offer: ``gradients`` and ``activations`` need its
    network, ``predictions`` only what it predicts. A map depends on its image, its class and the
    named random stream alone, never on the batch: with the same stream, networks are shown the
    same noise and the same masks. A constant map is returned as it is; one that is not finite is
    refused. The candidate stays as it was: weights, gradients, hooks and training mode.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    needs: ClassVar[Literal["gradients", "activations", "predictions"]]

    @property
    def is_signed(self) -> bool:
        """True where negative values speak against the class; else none is negative."""
        ...

    def maps(
        self,
        subject: Explained,
        inputs: NDArray[np.float32],
        target: NDArray[np.int64],
        *,
        stream: Callable[..., np.random.Generator],
    ) -> NDArray[np.float32]:
        """Return the maps (n, h, w) of preprocessed inputs (n, C, H, W) for the classes (n,).

        Raises:
            UsageError: the candidate does not offer what the method needs.
            DataError: the inputs or classes do not fit, or a map is not finite.
        """
        ...

    def resolution(self, subject: Explained, inputs: NDArray[np.float32]) -> tuple[int, int]:
        """Return how many places a map tells apart, (rows, columns); it may have more pixels."""
        ...


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number of one cell, before it becomes a record.

    Attributes:
        metric: name of the metric.
        value: the number, or None where it is undefined.
        unit: ``fraction``, ``bytes``, ``seconds``, ``count``, ``nat``, ``ratio``.
        better: ``higher``, ``lower`` or ``none``.
        low: lower end of the 95 % interval, None where no interval is stated.
        high: upper end.
        interval: how the interval was made; empty where there is none.
        count: number of images (or timed runs) behind the number.
        basis: ``measured``, ``derived`` or ``simulated``.
        reason: why the value is undefined, or the caveat that belongs to it.
        slice: the part of the images it is about; empty for all.
    """

    metric: str
    value: float | None
    unit: str
    better: str
    low: float | None = None
    high: float | None = None
    interval: str = ""
    count: int = 0
    basis: str = "measured"
    reason: str = ""
    slice: str = ""


class Subject(Protocol):
    """A candidate that is loaded and ready to be measured."""

    @property
    def key(self) -> str:
        """Key of the cell that is being measured."""
        ...

    @property
    def form(self) -> str:
        """``twin`` or ``artifact``."""
        ...


class Evaluator(Protocol):
    """Measure candidates under one condition."""

    name: ClassVar[str]
    version: ClassVar[int]
    exclusive: ClassVar[bool]

    def measure(
        self, subjects: Sequence[Any], condition: Condition
    ) -> Iterator[tuple[Any, Sequence[Measurement] | Failure]]:
        """Yield each subject with its measurements; one bad subject never costs the others."""
        ...


class Engine(Protocol):
    """Somewhere to run independent work.

    An engine that opens something for its work, such as a connection, may be a context manager: a
    run enters it once, around all of its stages.
    """

    name: ClassVar[str]

    @property
    def beside(self) -> int:
        """How many pieces of work may share one machine at the same time."""
        ...

    def map(self, work: Callable[[A], B], items: Iterable[A]) -> Iterator[tuple[A, B | Failure]]:
        """Yield every item once with its result as it finishes; an exception becomes a Failure."""
        ...


class ModelSource(Protocol):
    """One scheme of model references, ``scheme:rest``."""

    name: ClassVar[str]

    def fingerprint(self, rest: str, settings: Any, roots: Mapping[str, Path]) -> str:
        """Return the identity of the model without importing torch."""
        ...

    def load(self, rest: str, settings: Any, roots: Mapping[str, Path]) -> Any:
        """Return a ``LoadedModel``; ``settings`` is the study's ``ModelSpec``."""
        ...


class DataSource(Protocol):
    """One scheme of data references, ``scheme:rest``."""

    name: ClassVar[str]

    def load(self, rest: str, roots: Mapping[str, Path]) -> Any:
        """Return an ``ImageSet``; ``roots`` are the named places the user gave for data."""
        ...
