"""The node over real DDS, with clouds of every kind."""

import json

import numpy as np
import pytest
from std_msgs.msg import Float64, String

from ov_seg_ros.messages.pointcloud2 import decode_pointcloud2
from ov_seg_ros.refinement.afi import refine_afi
from ov_seg_ros.refinement.afi_config import AfiConfig

GRID = np.stack(np.meshgrid(np.arange(-4.0, 4), np.arange(-2.0, 2), [0.5]), axis=-1).reshape(-1, 3)


@pytest.fixture
def rig(start):
    return start()


def test_labels_every_point_in_order_and_keeps_all_fields(rig):
    ring = np.arange(len(GRID), dtype=np.uint16)
    message = rig.cloud(GRID, ring=ring, intensity=ring.astype(np.float32))
    answer = decode_pointcloud2(rig.label(message))
    assert answer.cloud.frame_id == "lidar"
    np.testing.assert_array_equal(answer.cloud.points, GRID)
    np.testing.assert_array_equal(answer.fields["ring"], ring)
    np.testing.assert_array_equal(answer.cloud.intensity, ring)
    np.testing.assert_array_equal(answer.fields["class_id"], rig.simulated.expected_class(GRID))
    np.testing.assert_array_equal(answer.fields["probability"], rig.simulated.expected_probability(GRID))
    np.testing.assert_array_equal(answer.fields["entropy"], np.float32(0.25))


def test_the_student_is_warm_before_the_first_scan(rig):
    assert rig.segmenter.warm_ups == 1
    assert rig.segmenter.calls == []


def test_empty_cloud_in_empty_result_out(rig):
    message = rig.cloud(np.zeros((0, 3)))
    answer = rig.label(message)
    assert (answer.width * answer.height, len(answer.data)) == (0, 0)
    assert {"x", "y", "z", "class_id", "probability", "entropy"} <= {field.name for field in answer.fields}


def test_one_point(rig):
    answer = decode_pointcloud2(rig.label(rig.cloud([[4.5, -1, 0]])))
    assert answer.fields["class_id"].tolist() == [1]


def test_invalid_points_stay_in_place_as_unknown(rig):
    points = np.array([[np.nan, 0, 0], [1.5, 0, 0], [0, np.inf, 0], [np.nan] * 3])
    answer = decode_pointcloud2(rig.label(rig.cloud(points)))
    assert answer.fields["class_id"].tolist() == [255, 1, 255, 255]
    assert answer.fields["probability"].tolist() == [0, 0.5, 0, 0]
    np.testing.assert_array_equal(answer.cloud.points, points.astype(np.float32))


def test_a_layout_nobody_foresaw(rig):
    from ov_seg_ros.messages.pointcloud2 import encode_cloud
    from ov_seg_ros.ros.outputs import MESSAGE_TYPES

    columns = {
        "flags": np.arange(32, dtype=np.uint8),
        "z": GRID[:, 2],
        "covariance": np.ones((32, 9), np.float32),
        "x": GRID[:, 0],
        "y": GRID[:, 1].astype(np.float32),
    }
    message = encode_cloud(columns, 1, "odd").to_message(MESSAGE_TYPES)
    answer = decode_pointcloud2(rig.label(message))
    np.testing.assert_array_equal(answer.fields["class_id"], rig.simulated.expected_class(GRID))
    np.testing.assert_array_equal(answer.fields["covariance"], 1)
    assert answer.fields["x"].dtype == np.float64


def test_autoware_layout_on_request(start):
    rig = start(output_profile="xyzcpe")
    answer = rig.label(rig.cloud(GRID, ring=np.zeros(len(GRID), np.uint16)))
    assert answer.point_step == 21
    assert [(f.name, f.offset) for f in answer.fields] == [
        ("x", 0),
        ("y", 4),
        ("z", 8),
        ("class_id", 12),
        ("probability", 13),
        ("entropy", 17),
    ]


def test_visualization_and_filtered_clouds(start):
    rig = start(filter__classes=["car"], filter__class_probability_threshold=0.6)
    filtered = rig.listen(f"{rig.CLOUD}filtered")
    colored = decode_pointcloud2(rig.label(rig.cloud(GRID), f"{rig.CLOUD}visualization"))
    rig.spin_until(lambda: filtered)
    class_id = rig.simulated.expected_class(GRID)
    rgb = colored.fields["rgb"].view(np.uint32)
    assert set(rgb[class_id == 1]) == {0xFF0000}
    assert set(rgb[class_id == 0]) == {0x0A141E}
    stays = ~((class_id == 1) & (rig.simulated.expected_probability(GRID) > 0.6))
    assert np.count_nonzero(~stays) > 0
    np.testing.assert_array_equal(decode_pointcloud2(filtered[-1]).cloud.points, GRID[stays])


def test_malformed_messages_are_dropped_and_counted_and_the_next_scan_is_labelled(rig):
    rig.listen(f"{rig.CLOUD}segmentation")
    for spoil in ("truncate", "no_x"):
        message = rig.cloud(GRID)
        if spoil == "truncate":
            message.data = message.data[:-3]
        else:
            message.fields = message.fields[1:]
        rig.clouds.publish(message)
        rig.spin(0.1)
    rig.label(rig.cloud(GRID))
    level, text, numbers = rig.diagnostics()["segmentation"]
    assert (numbers["bad_messages"], numbers["scans_labelled"], numbers["scans_in"]) == ("2", "1", "3")
    assert level == 2
    assert "'x' is missing" in text


def test_labels_of_the_input_are_replaced_and_the_other_outputs_do_not_care(rig):
    visualization = rig.listen(f"{rig.CLOUD}visualization")
    foreign = {"class_id": np.full(len(GRID), 77, np.uint8), "probability": np.full(len(GRID), 7, np.float64)}
    fields = decode_pointcloud2(rig.label(rig.cloud(GRID, **foreign))).fields
    expected = decode_pointcloud2(rig.label(rig.cloud(GRID))).fields
    for name in ("class_id", "probability", "entropy"):
        np.testing.assert_array_equal(fields[name], expected[name])
    rig.spin_until(lambda: len(visualization) == 2)


def test_a_failing_student_costs_the_scan_not_the_node(start):
    rig = start()
    rig.segmenter.fail = True
    rig.listen(f"{rig.CLOUD}segmentation")
    rig.send(GRID)
    rig.spin_until(lambda: rig.segmenter.calls)
    rig.segmenter.fail = False
    rig.label(rig.cloud(GRID))
    assert rig.numbers()["last_bad_reason"] == "the network failed on purpose"


def test_labels_are_refined_on_request(start):
    """The boundary between road and car runs through a plane whose centres gather votes from both sides."""
    rig = start(refinement="afi")
    assert rig.segmenter.warm_ups == 1
    points = np.random.default_rng(0).uniform((0, -5, 0), (6, 5, 0.2), (600, 3)).astype(np.float32)
    points[0], points[1] = np.nan, 0
    stages = {
        name: rig.listen(f"/segmentation_node/debug/processing_time/{name}_ms", Float64)
        for name in ("refinement", "total")
    }
    answer = decode_pointcloud2(rig.label(rig.cloud(points)))
    given = rig.simulated.expected_class(points)
    used = np.where(points.any(axis=1, keepdims=True), points, np.nan)
    expected = refine_afi(used, given, rig.simulated.LABEL_SPACE, AfiConfig.default())
    changed = given != expected
    assert 0 < changed.sum() < 100
    np.testing.assert_array_equal(answer.fields["class_id"], expected)
    assert answer.fields["class_id"][:2].tolist() == [255, 0]
    student = rig.simulated.expected_probability(points)
    np.testing.assert_allclose(
        answer.fields["probability"], np.where(changed, np.minimum(student, 1 - student), student)
    )
    rig.spin_until(lambda: all(stages.values()))
    assert 0 < stages["refinement"][0].data < stages["total"][0].data
    numbers = rig.numbers()
    assert (numbers["refinement"], float(numbers["refinement_time_ms"]) > 0) == ("afi", True)
    assert len(decode_pointcloud2(rig.label(rig.cloud(np.zeros((0, 3)))))) == 0
    assert decode_pointcloud2(rig.label(rig.cloud([[4.5, -1, 0]]))).fields["class_id"].tolist() == [1]


def test_nothing_tells_of_a_refinement_that_is_not_there(rig):
    topics = [name for name, _ in rig.node.get_topic_names_and_types()]
    assert not any("refinement" in name for name in topics)
    rig.label(rig.cloud(GRID))
    numbers = rig.numbers()
    assert numbers["refinement"] == "none"
    assert "refinement_time_ms" not in numbers


def test_no_work_without_subscribers(rig):
    for _ in range(5):
        rig.send(GRID)
    rig.spin_until(lambda: rig.numbers()["scans_in"] == "5")
    assert rig.segmenter.calls == []
    level, text, numbers = rig.diagnostics()["segmentation"]
    assert (level, text) == (0, "idle: nobody subscribes to an output")
    assert numbers["scans_unwanted"] == "5"
    rig.label(rig.cloud(GRID))


def test_overload_latest_wins_and_the_counters_add_up(start):
    rig = start(delay_s=0.1)
    heard = rig.listen(f"{rig.CLOUD}segmentation")
    sent = []
    for _ in range(45):
        sent.append(rig.send(GRID).header)
        rig.spin(1 / 30)
    rig.spin_until(lambda: heard and heard[-1].header == sent[-1])
    numbers = rig.numbers()
    assert numbers["scans_in"] == "45"
    assert int(numbers["scans_labelled"]) == len(heard)
    assert int(numbers["scans_labelled"]) + int(numbers["scans_dropped"]) == 45
    assert 3 <= len(heard) <= 25  # 1.5 s at 0.1 s each; fewer on a busy machine
    stamps = [message.header.stamp for message in heard]
    assert stamps == sorted(stamps, key=lambda s: (s.sec, s.nanosec))


def test_a_long_queue_loses_nothing(start):
    rig = start(delay_s=0.03, queue_size=50)
    heard = rig.listen(f"{rig.CLOUD}segmentation")
    sent = [rig.send(GRID).header for _ in range(30)]
    rig.spin_until(lambda: len(heard) == 30)
    assert [message.header for message in heard] == sent
    assert rig.numbers()["scans_dropped"] == "0"


def test_class_list_is_latched(rig):
    rig.spin(0.1)
    heard = rig.listen("/segmentation_node/label_info_json", String, qos=rig.LATCHED)
    rig.spin_until(lambda: heard)
    content = json.loads(heard[0].data)
    assert content["classes"][1] == {"id": 1, "name": "car", "color": [255, 0, 0]}
    assert (content["ignore_id"], content["version"]) == (255, rig.segmenter.sha256)


def test_a_class_map_translates_ids_names_colours_and_what_is_filtered(start, tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text(
        "name: mine\nclasses:\n"
        "  - {name: PLANT, color: [1, 2, 3], from: [tree]}\n"
        "  - {name: GROUND, color: [4, 5, 6], from: [road]}\n"
        "unknown: [car]\n"
    )
    rig = start(class_map=str(path), filter__classes=["GROUND"])
    shown, left = (rig.listen(f"{rig.CLOUD}{name}") for name in ("visualization", "filtered"))
    message = rig.cloud(GRID)
    answer = decode_pointcloud2(rig.label(message))
    student = rig.simulated.expected_class(GRID)
    expected = np.array([1, 255, 0])[student]
    np.testing.assert_array_equal(answer.fields["class_id"], expected)
    probability = np.where(student == 1, 0, rig.simulated.expected_probability(GRID))
    np.testing.assert_array_equal(answer.fields["probability"], probability)
    rig.spin_until(lambda: shown and left)
    colors = decode_pointcloud2(shown[0]).fields["rgb"].copy().view(np.uint32)
    assert set(colors[expected == 0]) == {0x010203}
    assert len(decode_pointcloud2(left[0])) == (expected != 1).sum()
    classes = rig.listen("/segmentation_node/label_info_json", String, qos=rig.LATCHED)
    rig.spin_until(lambda: classes)
    content = json.loads(classes[0].data)
    assert [entry["name"] for entry in content["classes"]] == ["PLANT", "GROUND"]
    assert content["version"].startswith(f"{rig.segmenter.sha256}+")
    assert rig.numbers()["class_map"] == str(path)


def test_times_and_latency_are_published_and_a_future_stamp_is_flagged_instead(rig):
    debug = "/segmentation_node/debug/"
    latency = rig.listen(f"{debug}pipeline_latency_ms", Float64)
    stages = {
        name: rig.listen(f"{debug}processing_time/{name}_ms", Float64)
        for name in ("decode", "preprocess", "inference", "postprocess", "encode", "total")
    }
    rig.label(rig.cloud(GRID))
    rig.spin_until(lambda: latency and all(stages.values()))
    assert stages["inference"][0].data == 2.0
    assert 0 < stages["total"][0].data < 1000
    assert 0 < latency[0].data < 5000
    rig.label(rig.cloud(GRID, stamp_ns=rig.now_ns() + 10**10))
    rig.spin(0.1)
    level, text, numbers = rig.diagnostics()["segmentation"]
    assert len(latency) == 1
    assert (level, numbers["negative_latencies"]) == (1, "1")
    assert "in the future" in text


def test_a_best_effort_driver_that_starts_after_the_node_is_heard(rig):
    heard = rig.listen(f"{rig.CLOUD}segmentation")
    rig.tester.destroy_publisher(rig.clouds)
    rig.spin(0.3)
    rig.clouds = rig.tester.create_publisher(
        type(rig.cloud(GRID)), "/segmentation_node/input/pointcloud", rig.BEST_EFFORT
    )
    rig.spin_until(lambda: rig.clouds.get_subscription_count() == 1)
    rig.spin(0.1)
    rig.label(rig.cloud(GRID))
    assert heard


def test_says_why_nothing_comes_out(rig):
    rig.listen(f"{rig.CLOUD}segmentation")
    level, text, numbers = rig.diagnostics()["segmentation"]
    assert level == 1
    assert text.startswith("no cloud received yet: /segmentation_node/input/pointcloud has 1 publisher")
    assert (numbers["provider"], numbers["classes"]) == ("CPUExecutionProvider", "road, car, tree")


def test_a_publisher_that_the_operators_qos_excludes_is_named_with_the_parameter_to_change(start):
    key = "qos_overrides./segmentation_node/input/pointcloud.subscription.reliability"
    rig = start(**{key: "reliable"})
    rig.tester.create_publisher(type(rig.cloud(GRID)), "/segmentation_node/input/pointcloud", rig.BEST_EFFORT)
    rig.spin_until(lambda: rig.diagnostics()["segmentation"][0] == 2)
    text = rig.diagnostics()["segmentation"][1]
    assert "offers another RELIABILITY" in text
    assert key in text
