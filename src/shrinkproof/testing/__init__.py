"""The conformance kit: one call per class checks what every member of an open set must do.

Plugin authors call it in their own tests; ours call it for everything that is registered. Each
check raises `AssertionError` with a sentence that names the class and the broken rule.
"""

from shrinkproof.testing.attribution import check_attribution, tiny_explained
from shrinkproof.testing.boxed_images import check_boxed_images
from shrinkproof.testing.boxes import tiny_detections
from shrinkproof.testing.component import example_settings
from shrinkproof.testing.compressor import (
    check_channel_criterion,
    check_compressor,
    check_criterion,
)
from shrinkproof.testing.corruption import check_corruption
from shrinkproof.testing.detector import check_detector
from shrinkproof.testing.engine import check_engine
from shrinkproof.testing.evaluator import check_evaluator
from shrinkproof.testing.metric import check_metric
from shrinkproof.testing.toys import (
    tiny_context,
    tiny_images,
    tiny_model,
    tiny_predictions,
    tiny_subjects,
)

__all__ = [
    "check_attribution",
    "check_boxed_images",
    "check_channel_criterion",
    "check_compressor",
    "check_corruption",
    "check_criterion",
    "check_detector",
    "check_engine",
    "check_evaluator",
    "check_metric",
    "example_settings",
    "tiny_context",
    "tiny_detections",
    "tiny_explained",
    "tiny_images",
    "tiny_model",
    "tiny_predictions",
    "tiny_subjects",
]
