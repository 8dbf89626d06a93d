import pytest
import yaml

from shrinkproof.compressors import COMPRESSORS
from shrinkproof.spec import example_study, json_schema

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture(scope="module")
def validator():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_example_is_valid(validator):
    assert list(validator.iter_errors(yaml.safe_load(example_study()))) == []


@pytest.mark.parametrize(
    "change",
    [
        {"sede": 1},
        {"seed": "x"},
        {"recipes": {"a": {"steps": [{"fodl": {}}]}}},
        {"recipes": {"a": {"steps": [{"prune.weights": {"ratio": 30}}]}}},
        {"recipes": {"a": {"steps": [{"prune.weights": {"ratoi": 0.3}}]}}},
        {"recipes": {"a": {"steps": ["prune.weights"]}}},
        {"recipes": {"a": {"steps": [{"fold": {}, "quantize.static": {}}]}}},
        {"conditions": {"fog": [6]}},
        {"conditions": {"fogg": [3]}},
        {"measure": {"scores": ["accuracy.topp"]}},
        {"data": {"report": 3}},
        {"data": {"report": "digits", "batch": "autoo"}},
    ],
)
def test_what_the_loader_refuses_the_schema_refuses(validator, change):
    content = {**yaml.safe_load(example_study()), **change}
    assert list(validator.iter_errors(content))


def test_every_step_is_offered():
    steps = json_schema()["$defs"]["Step"]["oneOf"]
    offered = {next(iter(s["properties"])) for s in steps if "properties" in s}
    assert offered == set(COMPRESSORS.names())
