"""Schema, parameter file and refusals."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.matching import CameraTiming
from ov_seg_ros.ros.parameter_schema import ParameterSchema
from ov_seg_ros.ros.parameters import NodeParameters, describe
from ov_seg_ros.ros.segmentation_node import SegmentationNode

CHECKOUT = Path(__file__).resolve().parents[2]
YAML = CHECKOUT / "config" / "segmentation_node.yaml"
SCHEMA = CHECKOUT / "ov_seg_ros" / "ros" / "segmentation_node.schema.json"
schema = ParameterSchema.load("segmentation_node")

ONE_PROVIDER = "one of auto, cpu, compiled, CPUExecutionProvider, cuda, tensorrt, triton"


def flatten(content, prefix=""):
    flat = {}
    for key, value in content.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def yaml_values():
    return flatten(yaml.safe_load(YAML.read_text())["/**"]["ros__parameters"])


def test_the_schema_is_a_schema_and_the_file_fits_it():
    content = yaml.safe_load(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(content)
    jsonschema.Draft202012Validator(content).validate(yaml_values())


def test_file_and_schema_hold_the_same_keys_and_defaults():
    assert yaml_values() == schema.defaults


def test_every_key_is_explained_in_the_file_in_the_words_of_the_schema():
    lines = YAML.read_text().splitlines()
    comments = " ".join(line.strip(" #") for line in lines if line.strip().startswith("#"))
    for name, entry in schema.properties.items():
        key = next(i for i, line in enumerate(lines) if line.strip().startswith(f"{name.split('.')[-1]}:"))
        assert lines[key - 1].strip().startswith("#"), f"{name} has no comment above it"
        first_words = " ".join(entry["description"].split()[:4]).rstrip(",;.")
        assert first_words in comments, name
        if entry["type"] in ("integer", "number"):
            assert f"{entry['minimum']:g} to {entry['maximum']:g}" in comments, f"{name} has no range in the file"


def test_every_number_has_a_unit_and_a_default_in_its_range():
    for name, entry in [*schema.properties.items(), *schema.families.items()]:
        if entry["type"] in ("integer", "number"):
            assert "[" in entry["description"], name
            assert entry["minimum"] <= entry["default"] <= entry["maximum"], name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"queue_sizes": 3}, "unknown parameter queue_sizes: did you mean queue_size?"),
        ({"use_sim_timex": True}, "unknown parameter use_sim_timex"),
        ({"zzzz": 3}, "unknown parameter zzzz: known: autostart, cameras"),
        ({"queue_size": 0}, "queue_size must be 1 to 1000, got 0"),
        ({"queue_size": 2.5}, "queue_size must be an integer, got 2.5"),
        ({"queue_size": True}, "queue_size must be an integer, got True"),
        ({"matching.tolerance_ms": float("nan")}, "matching.tolerance_ms must be 0.0 to 10000.0, got nan"),
        ({"filter.class_probability_threshold": 1.1}, "must be 0.0 to 1.0, got 1.1"),
        ({"refinement": "afo"}, "refinement must be one of none, afi, got 'afo'"),
        ({"provider": "gpu"}, f"provider must be {ONE_PROVIDER}, got 'gpu'"),
        ({"cameras": "front"}, "cameras must be a list of strings, got 'front'"),
        ({"cameras": ["front left"]}, "cameras: 'front left' must match"),
        ({"cameras": ["a", "a"]}, "must not hold the same entry twice"),
        ({"model_path": None}, "model_path must be a string, got None"),
        ({"cameras": ["front"], "matching.offset_ms.rear": 1.0}, "offset_ms.rear: no such camera, .* holds: front"),
    ],
)
def test_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        NodeParameters.from_values(schema.resolve(given))


def test_accepted():
    given = {"cameras": ["a", "b"], "matching.offset_ms.b": -20, "matching.tolerance_ms": 30, "filter.classes": None}
    of_rclpy = {"qos_overrides./x.reliability": "y", "use_sim_time": True, "start_type_description_service": False}
    settings = NodeParameters.from_values(schema.resolve({**given, **of_rclpy}))
    assert settings.cameras == {"a": CameraTiming(0, 30_000_000), "b": CameraTiming(-20_000_000, 30_000_000)}
    assert (settings.filter_classes, settings.deadline_ns, settings.queue_size) == ((), 100_000_000, 1)


def test_descriptors_tell_range_and_when_it_may_change():
    threshold = describe(schema.entry("filter.class_probability_threshold"))
    assert not threshold.read_only
    assert threshold.floating_point_range[0].to_value == 1.0
    queue = describe(schema.entry("queue_size"))
    assert queue.read_only
    assert queue.integer_range[0].to_value == 1000
    assert describe(schema.entry("provider")).additional_constraints == ONE_PROVIDER


def test_the_node_refuses_to_exist_with_a_bad_parameter(context):
    import rclpy

    with pytest.raises(ConfigError, match="did you mean provider"):
        SegmentationNode(context=context, parameter_overrides=[rclpy.Parameter("providr", value="cpu")])


def test_an_empty_list_in_a_parameter_file_is_an_empty_list(start):
    rig = start(cameras=None)
    assert rig.node.get_parameter("cameras").value == []
