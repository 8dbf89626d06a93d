"""Run a network on the images of this kit: ``python run_on_target.py NETWORK [MODEL]``.

Replace `load` by what your runtime needs. Only numpy and that runtime are imported.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def load(network: str) -> Callable[[Any], Any]:
    """Return a function from (1, 3, H, W) float32 to (1, classes) logits; here ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda inputs: session.run(None, {name: inputs})[0]


def main(network: str, model: str = "") -> None:
    """Write predictions/CONDITION.npz for every condition of the kit."""
    kit = Path(__file__).resolve().parent
    manifest = json.loads((kit / "manifest.json").read_text("utf-8"))
    setting = manifest["models"][model or next(iter(manifest["models"]))]
    mean, std = np.array(setting["mean"]), np.array(setting["std"])
    predict = load(network)
    (kit / "predictions").mkdir(exist_ok=True)
    for condition, files in manifest["conditions"].items():
        logits, seconds, hashes = [], [], []
        for image in np.load(kit / files["images"], mmap_mode="r"):
            inputs = ((image / 255.0 - mean) / std).astype(np.float32).transpose(2, 0, 1)[None]
            start = time.perf_counter()
            logits.append(np.array(predict(np.ascontiguousarray(inputs)))[0])
            seconds.append(time.perf_counter() - start)
            hashes.append(hashlib.sha256(image.tobytes()).hexdigest())
        np.savez(
            kit / files["predictions"],
            index=np.array(manifest["index"]), logits=np.array(logits), sha256=np.array(hashes),
            latency_seconds=np.array(seconds), condition=condition, split=manifest["split"],
        )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
