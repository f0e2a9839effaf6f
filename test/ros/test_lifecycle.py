"""Transitions, and parameters that change while the node runs."""

import gc
import weakref

import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from ov_seg_ros.core.errors import ModelError

POINTS = np.array([[0.5, 0, 0], [1.5, -1, 0], [2.5, 1, 0]])
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


def test_waits_for_a_manager_without_autostart(start):
    rig = start(autostart=False)
    assert rig.segmenter.warm_ups == 0
    level, text, _ = rig.diagnostics()["segmentation"]
    assert (level, text) == (1, "not active (lifecycle state unconfigured)")
    assert rig.node.trigger_configure() == SUCCESS
    assert rig.segmenter.warm_ups == 1
    assert rig.clouds.get_subscription_count() == 0
    assert rig.node.trigger_activate() == SUCCESS
    rig.label(rig.cloud(POINTS))


def test_deactivate_stops_receiving_and_activate_starts_again(start):
    rig = start()
    rig.label(rig.cloud(POINTS))
    assert rig.node.trigger_deactivate() == SUCCESS
    rig.spin_until(lambda: rig.clouds.get_subscription_count() == 0)
    assert rig.diagnostics()["segmentation"][1] == "not active (lifecycle state inactive)"
    assert rig.node.trigger_activate() == SUCCESS
    rig.spin_until(lambda: rig.clouds.get_subscription_count() == 1)
    rig.label(rig.cloud(POINTS))
    assert rig.segmenter.warm_ups == 1


def test_cleanup_frees_the_student_and_configure_loads_it_again(start):
    rig = start()
    rig.node.trigger_deactivate()
    assert rig.node.trigger_cleanup() == SUCCESS
    gone = weakref.ref(rig.segmenter)
    rig.segmenter, made = None, []
    rig.node._segmenter_factory = lambda _: made.append(rig.simulated.SimulatedSegmenter()) or made[-1]
    gc.collect()
    assert gone() is None
    assert rig.node.trigger_configure() == SUCCESS
    assert rig.node.trigger_activate() == SUCCESS
    rig.label(rig.cloud(POINTS))


def test_shutdown_from_any_state(start):
    assert start().node.trigger_shutdown() == SUCCESS
    assert start(autostart=False).node.trigger_shutdown() == SUCCESS


def test_a_missing_student_fails_the_transition_and_leaves_the_node_unconfigured(start):
    rig = start(autostart=False)

    def fail(_):
        raise ModelError("student.onnx is missing: run `make student`")

    factory, rig.node._segmenter_factory = rig.node._segmenter_factory, fail
    assert rig.node.trigger_configure() == FAILURE
    rig.node._segmenter_factory = factory
    assert rig.node.trigger_configure() == SUCCESS


def test_an_unknown_class_to_filter_is_refused_at_start(start):
    rig = start(autostart=False, filter__classes=["caar"])
    assert rig.node.trigger_configure() == FAILURE


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("filter.classes", ["caar"], "did you mean 'car'"),
        ("filter.class_probability_threshold", 1.5, ""),
        ("queue_size", 3, "read-only"),
        ("filter.classes", None, "filter.classes cannot be deleted"),
    ],
)
def test_changes_that_are_refused(start, name, value, reason):
    rig = start()
    result = rig.node.set_parameters([Parameter(name, value=value)])[0]
    assert not result.successful
    assert reason in result.reason


def test_the_filter_may_change_while_the_node_runs(start):
    rig = start()
    topic = f"{rig.CLOUD}filtered"
    assert rig.label(rig.cloud(POINTS), topic).width == 3
    assert rig.node.set_parameters([Parameter("filter.classes", value=["car", "tree"])])[0].successful
    assert rig.label(rig.cloud(POINTS), topic).width == 1
    assert rig.node.set_parameters([Parameter("filter.class_probability_threshold", value=0.7)])[0].successful
    assert rig.label(rig.cloud(POINTS), topic).width == 2
