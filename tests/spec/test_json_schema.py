import pytest
import yaml

from shrinkproof.attributions import ATTRIBUTIONS, BOX_ATTRIBUTIONS
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
        {"measure": {"saliency": {"methods": ["gradcm"]}}},
        {"measure": {"saliency": {"methods": [{"occlusion": {"windo": 3}}]}}},
        {"data": {"report": 3}},
        {"data": {"report": "digits", "batch": "autoo"}},
    ],
)
def test_what_the_loader_refuses_the_schema_refuses(validator, change):
    content = {**yaml.safe_load(example_study()), **change}
    assert list(validator.iter_errors(content))


def test_methods_for_heat_maps_are_offered_by_name_and_with_settings(validator):
    offered = json_schema()["$defs"]["Attribution"]["anyOf"]
    named = {name for each in offered for name in each.get("enum", ())}
    assert named == {*ATTRIBUTIONS.names(), *BOX_ATTRIBUTIONS.names()}
    methods = ["gradcam", {"occlusion": {"window": 4, "stride": 2}}, {"rise": None}]
    content = {**yaml.safe_load(example_study()), "measure": {"saliency": {"methods": methods}}}
    assert list(validator.iter_errors(content)) == []


def test_every_step_is_offered():
    steps = json_schema()["$defs"]["Step"]["oneOf"]
    offered = {next(iter(s["properties"])) for s in steps if "properties" in s}
    assert offered == set(COMPRESSORS.names())
