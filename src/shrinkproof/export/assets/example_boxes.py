"""Find objects in one image with ONNX Runtime: python example.py IMAGE.npy [MODULE:NAME].

The network gives numbers of which a rule makes boxes: `decode` of the detector that it was made
from, named in preprocess.json. MODULE:NAME returns that detector when it is called; its weights do
not matter. Without it, only the shape of the numbers is printed.
"""

import importlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

here = Path(__file__).resolve().parent
how = json.loads((here / "preprocess.json").read_text("utf-8"))

image = np.load(sys.argv[1])
if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
    sys.exit(f"must be (height, width, 3) uint8, got {image.shape} {image.dtype}")

height, width = image.shape[:2]
tall, wide = how["resize"]["size"]
canvas = np.zeros((tall, wide, 3), dtype=np.uint8)
if how["resize"]["keep_ratio"]:
    factor = min(tall / height, wide / width)
    tall, wide = max(1, round(height * factor)), max(1, round(width * factor))
if (tall, wide) == (height, width):
    canvas[:tall, :wide] = image
else:
    canvas[:tall, :wide] = cv2.resize(image, (wide, tall), interpolation=cv2.INTER_LINEAR)

pixels = (canvas / 255.0 - np.array(how["mean"])) / np.array(how["std"])
pixels[tall:], pixels[:, wide:] = 0, 0
inputs = pixels.transpose(2, 0, 1)[None].astype(np.float32)
session = onnxruntime.InferenceSession(here / "model.onnx", providers=["CPUExecutionProvider"])
(outputs,) = session.run([how["output"]], {how["input"]: inputs})

if len(sys.argv) < 3:
    sys.exit(f"outputs {outputs.shape}; decode of {how['decode']['class']} makes boxes of them")
module, _, name = sys.argv[2].partition(":")
detector = getattr(importlib.import_module(module), name)()
(found,) = detector.decode(outputs)
boxes = found.boxes / np.array([wide / width, tall / height] * 2)
boxes = np.clip(boxes, 0, [width, height, width, height])
for position in np.argsort(-found.score, kind="stable")[:20]:
    if found.score[position] < how["decode"]["threshold"]:
        break
    x1, y1, x2, y2 = boxes[position]
    label = how["classes"][found.label[position]]
    sys.stdout.write(f"{found.score[position]:.4f}  {label}  {x1:.1f} {y1:.1f} {x2:.1f} {y2:.1f}\n")
