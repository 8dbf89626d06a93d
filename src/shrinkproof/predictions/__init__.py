"""What a model said about the images of one evaluated condition, as plain arrays."""

from shrinkproof.predictions.classification import ClassificationPredictions
from shrinkproof.predictions.detection import DetectionPredictions
from shrinkproof.predictions.objects import Objects

Predictions = ClassificationPredictions | DetectionPredictions
"""What a model of either task said."""

__all__ = ["ClassificationPredictions", "DetectionPredictions", "Objects", "Predictions"]
