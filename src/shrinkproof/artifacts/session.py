"""Exported files in their real runtime, on the CPU or on a GPU."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import ExportError, MissingExtraError, ModelError

# The official builds for Linux send names and hashes of the networks they load to their maker, from
# a thread that starts with the import, unless this variable is set before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime


def share_threads(threads: int) -> None:
    """Make one pool of threads for all sessions of this process that share theirs.

    Each session has threads of its own otherwise, which keep spinning for a while after a call:
    where several sessions take turns, the threads of one slow down the other (2x to 3x for two
    threads on two cores). Must be called before any session is made, and once.
    """
    onnxruntime.set_global_thread_pool_sizes(threads, 1)


class Session:
    """An exported file, loaded and ready to run with ONNX Runtime.

    Args:
        path: the ``.onnx`` file.
        threads: threads of one call; calls do not run side by side.
        is_shared: use the pool of `share_threads`, which must have as many threads.
        device: ``cpu``, or ``cuda``, where operators that have no GPU form run on the CPU.

    Raises:
        ModelError: the file is missing or is no network the runtime can run, or the runtime sees
            no GPU.
        MissingExtraError: the installed runtime is one without GPUs.
    """

    def __init__(
        self, path: Path, *, threads: int = 1, is_shared: bool = False, device: str = "cpu"
    ) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ModelError(f"{self.path}: an exported network must be a file, got none")
        if threads < 1:
            raise ModelError(f"{self.path}: threads must be 1 or more, got {threads}")
        self.threads = threads
        self._session = _open(self.path, None if is_shared else threads, device=device)
        inputs = self._session.get_inputs()
        outputs = self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) < 1:
            raise ModelError(
                f"{self.path}: a network must have one input and an output, got {len(inputs)} "
                f"inputs and {len(outputs)} outputs"
            )
        self._input: str = inputs[0].name
        self._output: str = outputs[0].name

    @property
    def runtime(self) -> str:
        """Name and version of the runtime, for the record."""
        return RUNTIME

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits (N, C) float32 of preprocessed inputs (N, channels, H, W) float32.

        Raises:
            ExportError: the runtime refuses the inputs or fails.
        """
        try:
            (logits,) = self._session.run([self._output], {self._input: inputs})
        except _RUNTIME_ERRORS as error:
            raise ExportError(
                f"{self.path}: the runtime must accept inputs of shape {inputs.shape} "
                f"{inputs.dtype}, got {type(error).__name__}: {_first_line(error)}"
            ) from error
        return np.asarray(logits, dtype=np.float32)

    def nodes(self) -> tuple[str, ...]:
        """Return the operators that really run, after the runtime's own optimization."""
        import onnx

        with tempfile.TemporaryDirectory() as folder:
            optimized = Path(folder) / "optimized.onnx"
            _open(self.path, self.threads, optimized=optimized)
            graph = onnx.load(str(optimized)).graph
        return tuple(node.op_type for node in graph.node)


RUNTIME: Final = f"onnxruntime {onnxruntime.__version__}"
"""Name and version of the runtime."""

_STATE = onnxruntime.capi.onnxruntime_pybind11_state
_RUNTIME_ERRORS = (
    *(_STATE.Fail, _STATE.InvalidArgument, _STATE.InvalidGraph, _STATE.InvalidProtobuf),
    *(_STATE.NotImplemented, _STATE.RuntimeException, _STATE.NoSuchFile, _STATE.EPFail),
    *(ValueError, RuntimeError),
)


_GPU: Final = "CUDAExecutionProvider"


def _providers(device: str) -> list[Any]:
    """Return what runs the operators on a device, in the order in which it is asked.

    On a GPU float32 means float32 (its TensorFloat-32 is off), and the algorithm of a convolution
    is not the one that happened to be the fastest when it was tried.

    Raises:
        MissingExtraError: the installed runtime is one without GPUs.
    """
    if device != "cuda":
        return ["CPUExecutionProvider"]
    known = onnxruntime.get_available_providers()
    if _GPU not in known:
        raise MissingExtraError(
            f"measure.inference.device: cuda must be a GPU that ONNX Runtime can use, got a build "
            f"({RUNTIME}) that knows {', '.join(known)}; or write 'device: cpu'.",
            command="pip uninstall -y onnxruntime && pip install onnxruntime-gpu",
        )
    settings = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    return [(_GPU, settings), "CPUExecutionProvider"]


def _open(
    path: Path, threads: int | None, *, optimized: Path | None = None, device: str = "cpu"
) -> Any:
    """Return a session with so many threads of its own, or with the shared pool for None."""
    providers = _providers(device)
    options = onnxruntime.SessionOptions()
    options.use_per_session_threads = threads is not None
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    try:
        session = onnxruntime.InferenceSession(str(path), sess_options=options, providers=providers)
    except _RUNTIME_ERRORS as error:
        raise ModelError(
            f"{path}: the runtime must be able to load the file, got {type(error).__name__}: "
            f"{_first_line(error)}; export the model again"
        ) from error
    # Where the libraries of CUDA do not load, the runtime only logs it and takes the CPU.
    if device == "cuda" and _GPU not in session.get_providers():
        raise ModelError(
            "measure.inference.device: cuda must be a GPU that ONNX Runtime can use, got "
            f"{', '.join(session.get_providers())} only; install the CUDA and cuDNN libraries that "
            f"{RUNTIME} needs, or write 'device: cpu'"
        )
    return session


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"
