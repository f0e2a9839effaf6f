"""What the node does while nobody listens: next to nothing, and nothing is lost when somebody comes."""

import time

import numpy as np

from ov_seg_ros.ros.diagnostics_publisher import PERIOD_S
from ov_seg_ros.ros.subscription_gate import SequenceNumbers

POINTS = np.ones((50, 3))


def info(number, publisher=b"a"):
    return {"publication_sequence_number": number, "publisher_gid": {"data": publisher}}


def make_idle(rig):
    """Sends scans until the node shuts them out."""
    subscription = rig.node._session._subscription
    rig.spin_until(lambda: rig.clouds.get_subscription_count() > 0)
    while subscription._gate.is_open:
        rig.send(POINTS)
        rig.spin(0.05)
    return subscription


def test_scans_that_nobody_wants_are_not_taken_but_counted_each(start):
    rig = start()
    subscription = make_idle(rig)
    sent = int(rig.numbers()["scans_in"])
    taken = []
    subscription._callback = taken.append
    for _ in range(40):  # more than the middleware keeps
        rig.send(POINTS)
    rig.spin(PERIOD_S + 0.2)
    rig.send(POINTS)
    rig.listen(f"{rig.CLOUD}segmentation")
    assert taken == []
    numbers = rig.numbers()
    assert int(numbers["scans_in"]) == int(numbers["scans_unwanted"])
    assert int(numbers["scans_in"]) >= sent + 41
    assert numbers["scans_missed"] == "0"


def test_everything_sent_after_a_subscriber_came_is_labelled_and_nothing_older(start):
    rig = start(queue_size=20)
    make_idle(rig)
    for _ in range(3):
        rig.send(POINTS)
    heard = rig.listen(f"{rig.CLOUD}segmentation")
    sent = [rig.send(POINTS).header for _ in range(5)]
    rig.spin_until(lambda: len(heard) == 5)
    rig.spin(0.1)
    assert [message.header for message in heard] == sent
    assert len(rig.segmenter.calls) == 5


def test_goes_idle_again_when_the_last_subscriber_leaves(start):
    rig = start()
    heard = []
    reader = rig.tester.create_subscription(type(rig.cloud(POINTS)), f"{rig.CLOUD}visualization", heard.append, 5)
    rig.spin_until(lambda: rig.node._session._outputs.cloud_subscribers == 1)
    rig.spin(0.1)
    rig.send(POINTS)
    rig.spin_until(lambda: heard)
    rig.tester.destroy_subscription(reader)
    make_idle(rig)
    assert rig.diagnostics()["segmentation"][:2] == (0, "idle: nobody subscribes to an output")


def test_says_that_the_lidar_stopped_even_while_nobody_listens(start):
    rig = start()
    subscription = make_idle(rig)
    rig.spin_until(lambda: "no cloud for" in rig.diagnostics()["segmentation"][1])
    assert subscription._gate.is_open  # so that the next scan is seen at once


def test_polls_where_the_middleware_does_not_tell_of_subscribers(start, monkeypatch):
    from ov_seg_ros.ros import qos

    monkeypatch.setattr(qos, "PublisherEventCallbacks", None)
    rig = start()
    assert not rig.node._session._outputs.tells_readers
    rig.spin_until(lambda: rig.clouds.get_subscription_count() > 0)
    for _ in range(5):
        rig.send(POINTS)
    rig.spin_until(lambda: rig.numbers()["scans_unwanted"] == "5")
    assert rig.node._session._subscription._gate.is_open
    rig.label(rig.cloud(POINTS))


def test_an_idle_node_sleeps(start):
    """Unread messages must not keep the executor awake: Fast DDS wakes up whoever waits for events of the reader."""
    rig = start()
    make_idle(rig)
    rounds, end = 0, time.monotonic() + 0.9
    rig.send(POINTS)
    while time.monotonic() < end:
        rig.executor.spin_once(timeout_sec=0.3)
        rounds += 1
    assert rounds < 20


def test_numbers_of_one_publisher_at_a_time():
    numbers = SequenceNumbers()
    assert [numbers.note(info(number)) for number in (7, 8, 11)] == [0, 0, 2]
    assert numbers.note(info(1, b"b")) == 0
    assert numbers.note(info(10)) == -1  # late, not lost
    assert numbers.missed == 1
    assert [numbers.note(info(number)) for number in (12, 13)] == [0, 0]  # what lies between is counted once
    assert numbers.missed == 1
    assert numbers.note({"publication_sequence_number": None, "publisher_gid": None}) == 0
