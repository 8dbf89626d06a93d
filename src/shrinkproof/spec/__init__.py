"""The study file: its schema, reading it with all problems at once, and what it asks for."""

from shrinkproof.spec.example import example_study
from shrinkproof.spec.json_schema import json_schema
from shrinkproof.spec.loading import load_study_spec
from shrinkproof.spec.recipes import RecipeSpec
from shrinkproof.spec.schema import (
    ConditionSet,
    CostSpec,
    IntervalsSpec,
    LatencySpec,
    MeasureSpec,
    RobustnessSpec,
    SelectSpec,
    StudySpec,
)

__all__ = [
    "ConditionSet",
    "CostSpec",
    "IntervalsSpec",
    "LatencySpec",
    "MeasureSpec",
    "RecipeSpec",
    "RobustnessSpec",
    "SelectSpec",
    "StudySpec",
    "example_study",
    "json_schema",
    "load_study_spec",
]
