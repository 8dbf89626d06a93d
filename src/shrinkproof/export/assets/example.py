"""Classify one image with ONNX Runtime and numpy: python example.py IMAGE.npy."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

here = Path(__file__).resolve().parent
how = json.loads((here / "preprocess.json").read_text("utf-8"))

image = np.load(sys.argv[1])
channels, height, width = how["shape"]
if image.dtype != np.uint8 or image.shape != (height, width, channels):
    sys.exit(f"must be ({height}, {width}, {channels}) uint8, got {image.shape} {image.dtype}")

pixels = (image / 255.0 - np.array(how["mean"])) / np.array(how["std"])
inputs = pixels.transpose(2, 0, 1)[None].astype(np.float32)
session = onnxruntime.InferenceSession(here / "model.onnx", providers=["CPUExecutionProvider"])
(logits,) = session.run([how["output"]], {how["input"]: inputs})

odds = np.exp(logits[0] - logits[0].max())
for position in np.argsort(-odds)[:5]:
    sys.stdout.write(f"{odds[position] / odds.sum():.4f}  {how['classes'][position]}\n")
