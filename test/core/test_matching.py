"""The matcher against a brute-force search, and under everything that sensors and recordings do to stamps."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.matching import CameraTiming, ScanMatcher

MS = 1_000_000


def matcher(offset_ms=0, tolerance_ms=50, deadline_ms=100, **options):
    timing = CameraTiming(offset_ms * MS, tolerance_ms * MS)
    return ScanMatcher({"front": timing}, deadline_ns=deadline_ms * MS, **options)


def only(matches):
    assert len(matches) == 1
    return matches[0]


def front(match):
    return match.images["front"]


def test_equal_stamps_pair_at_once_with_zero_tolerance():
    m = matcher(tolerance_ms=0)
    m.add_image("front", 5 * MS, "image")
    m.add_scan(5 * MS, "scan", now_ns=0)
    match = only(m.pop_ready(now_ns=0))
    assert (match.scan, match.stamp_ns, match.complete) == ("scan", 5 * MS, True)
    assert (front(match).outcome, front(match).image, front(match).gap_ns) == ("paired", "image", 0)


@pytest.mark.parametrize(("gap_ms", "outcome"), [(50, "paired"), (51, "too_far"), (-50, "paired"), (-51, "stale")])
def test_tolerance_is_inclusive(gap_ms, outcome):
    m = matcher(tolerance_ms=50)
    m.add_scan(1000 * MS, "scan", now_ns=0)
    m.add_image("front", (1000 + gap_ms) * MS, "image")
    match = only(m.pop_ready(now_ns=100 * MS))
    assert front(match).outcome == outcome
    assert front(match).gap_ns == gap_ms * MS
    assert (front(match).image is None) == (outcome != "paired")


def test_waits_for_the_nearer_image_instead_of_taking_the_first_within_tolerance():
    m = matcher(tolerance_ms=50)
    m.add_image("front", 967 * MS, "early")
    m.add_scan(1000 * MS, "scan", now_ns=0)
    assert m.pop_ready(now_ns=10 * MS) == []
    m.add_image("front", 1000 * MS, "exact")
    assert front(only(m.pop_ready(now_ns=15 * MS))).image == "exact"


def test_deadline_counts_from_the_arrival_of_the_scan():
    m = matcher(deadline_ms=100)
    m.add_image("front", 990 * MS, "image")
    m.add_scan(1000 * MS, "scan", now_ns=7 * MS)
    assert m.pop_ready(now_ns=107 * MS - 1) == []
    match = only(m.pop_ready(now_ns=107 * MS))
    assert front(match).image == "image"
    assert not match.complete


def test_a_scan_is_never_lost_because_a_camera_is():
    m = matcher()
    for i in range(20):
        m.add_scan(i * 100 * MS, i, now_ns=i * 100 * MS)
    matches = m.pop_ready(now_ns=10_000 * MS)
    assert [match.scan for match in matches] == list(range(20))
    assert m.counters == {"front": {"paired": 0, "too_far": 0, "missing": 20, "stale": 0}}


def test_without_cameras_every_scan_is_final_at_once():
    m = ScanMatcher({})
    m.add_scan(1, "scan", now_ns=0)
    assert only(m.pop_ready(now_ns=0)).images == {}


@pytest.mark.parametrize("offset_ms", [-30, 30])
def test_the_offset_is_added_to_the_image_stamp(offset_ms):
    m = matcher(offset_ms=offset_ms, tolerance_ms=0)
    m.add_scan(1000 * MS, "scan", now_ns=0)
    m.add_image("front", (1000 - offset_ms) * MS, "image")
    match = only(m.pop_ready(now_ns=0))
    assert (front(match).outcome, front(match).stamp_ns, front(match).gap_ns) == ("paired", (1000 - offset_ms) * MS, 0)


def test_one_slow_camera_holds_the_scan_only_to_the_deadline():
    m = ScanMatcher({"a": CameraTiming(), "b": CameraTiming()}, deadline_ns=100 * MS)
    m.add_scan(1000 * MS, "scan", now_ns=0)
    m.add_image("a", 1001 * MS, "image a")
    assert m.pop_ready(now_ns=99 * MS) == []
    match = only(m.pop_ready(now_ns=100 * MS))
    assert match.images["a"].image == "image a"
    assert match.images["b"].outcome == "missing"


def test_a_duplicate_stamp_replaces_the_image_and_a_duplicate_scan_is_a_scan():
    m = matcher()
    m.add_image("front", 1000 * MS, "first")
    m.add_image("front", 1000 * MS, "second")
    m.add_scan(1000 * MS, "a", now_ns=0)
    m.add_scan(1000 * MS, "b", now_ns=0)
    matches = m.pop_ready(now_ns=0)
    assert [(x.scan, front(x).image) for x in matches] == [("a", "second"), ("b", "second")]


def test_reordered_images_are_sorted_in():
    m = matcher(tolerance_ms=10)
    for stamp in (1066, 1000, 1033):
        m.add_image("front", stamp * MS, stamp)
    for stamp in (1000, 1033, 1066):
        m.add_scan(stamp * MS, stamp, now_ns=0)
    assert [front(x).image for x in m.pop_ready(now_ns=0)] == [1000, 1033, 1066]
    assert m.resets == 0


def test_history_is_bounded():
    m = matcher(history=3)
    for stamp in range(10):
        m.add_image("front", stamp * MS, stamp)
    assert len(m._cameras["front"].images) == len(m._cameras["front"].stamps) == 3


def test_a_stopped_camera_turns_stale():
    m = matcher()
    m.add_image("front", 0, "last")
    for i in range(3):
        m.add_scan((1000 + 100 * i) * MS, i, now_ns=0)
    m.pop_ready(now_ns=100 * MS)
    assert m.counters["front"] == {"paired": 0, "too_far": 0, "missing": 0, "stale": 3}


def replay(m, events, start_ns=0):
    """Feeds (arrival, kind, stamp) events in order of arrival; gives all matches."""
    matches = []
    for arrival, kind, stamp in sorted(events):
        now = start_ns + arrival
        matches += m.pop_ready(now)
        if kind == "scan":
            m.add_scan(stamp, stamp, now)
        else:
            m.add_image(kind, stamp, stamp)
        matches += m.pop_ready(now)
    return matches


def drive(scans, rng, loss=0.0, jitter_ms=5.0):
    """10 Hz scans that arrive after 100 ms, 30 Hz images that arrive after 25 ms, both jittered."""
    events = []
    for i in range(scans):
        stamp = i * 100 * MS
        events.append((stamp + 100 * MS + int(rng.uniform(0, jitter_ms) * MS), "scan", stamp))
    for i in range(scans * 3 + 3):
        stamp = int(i * 100 * MS / 3)
        if rng.random() >= loss:
            events.append((stamp + 25 * MS + int(rng.uniform(0, jitter_ms) * MS), "front", stamp))
    return events


def test_a_drive_pairs_every_scan_with_the_exact_image():
    matches = replay(matcher(), drive(200, random.Random(0)))
    assert len(matches) == 200
    assert all(front(x).gap_ns == 0 for x in matches)


@pytest.mark.parametrize("offset_between_streams_ms", [-300, 0, 300])
def test_looped_recordings_pair_as_well_in_every_loop(offset_between_streams_ms):
    m = matcher(tolerance_ms=20)
    rng = random.Random(1)
    shift = offset_between_streams_ms * MS
    for loop in range(3):
        events = [(a + (shift if k == "front" else 0) + 300 * MS, k, s) for a, k, s in drive(200, rng)]
        before = m.counters["front"]["paired"]
        matches = replay(m, events, start_ns=loop * 21_000 * MS)
        matches += m.pop_ready((loop + 1) * 21_000 * MS)
        assert len(matches) == 200
        # An image stream that runs behind the deadline cannot be paired; otherwise every scan is.
        expected = 0 if shift > 0 else 200
        assert m.counters["front"]["paired"] - before >= expected - 1
    assert m.resets >= 2


def test_jump_of_the_scans_releases_what_waits_and_keeps_images_already_of_the_new_loop():
    m = matcher(tolerance_ms=0)
    m.add_image("front", 19_967 * MS, "old")
    m.add_scan(20_000 * MS, "last", now_ns=0)
    m.add_image("front", 0, "new")
    m.add_scan(0, "first", now_ns=10 * MS)
    last, first = m.pop_ready(now_ns=10 * MS)
    assert (last.scan, front(last).outcome) == ("last", "stale")
    assert (first.scan, front(first).image) == ("first", "new")
    assert m.resets == 2


def test_an_image_left_over_from_the_old_loop_does_not_close_a_scan_of_the_new_one():
    m = matcher(tolerance_ms=0)
    m.add_scan(20_000 * MS, "last", now_ns=0)
    m.add_scan(0, "first", now_ns=0)
    m.add_image("front", 20_033 * MS, "old")
    m.add_image("front", 0, "new")
    assert [front(x).image for x in m.pop_ready(now_ns=0)] == [None, "new"]


def test_one_stamp_in_the_far_future_costs_one_reset_and_nothing_else():
    m = matcher(tolerance_ms=0)
    for i in range(10):
        m.add_image("front", 10**15 if i == 5 else i * 100 * MS, i)
        m.add_scan(i * 100 * MS, i, now_ns=i * 100 * MS)
    matches = m.pop_ready(now_ns=10_000 * MS)
    assert [front(x).image for x in matches] == [0, 1, 2, 3, 4, None, 6, 7, 8, 9]
    assert m.resets == 1


def test_bad_numbers_and_unknown_cameras_are_refused():
    with pytest.raises(ConfigError, match="tolerance_ns must be >= 0, got -1"):
        CameraTiming(0, -1)
    with pytest.raises(ConfigError, match="history >= 1"):
        matcher(history=0)
    with pytest.raises(InputError, match="unknown camera 'rear'; known: front"):
        matcher().add_image("rear", 0, None)


stamps = st.integers(0, 400).map(lambda ms: ms * MS)


@settings(max_examples=300, deadline=None)
@given(
    images=st.lists(stamps, max_size=12, unique=True),
    scans=st.lists(stamps, min_size=1, max_size=6),
    offset=st.integers(-100, 100).map(lambda ms: ms * MS),
    tolerance=st.integers(0, 200).map(lambda ms: ms * MS),
    order=st.randoms(use_true_random=False),
)
def test_equals_brute_force_when_all_images_came_before_the_scans(images, scans, offset, tolerance, order):
    m = ScanMatcher({"front": CameraTiming(offset, tolerance)}, history=100)
    order.shuffle(images)
    for stamp in images:
        m.add_image("front", stamp, stamp)
    for stamp in scans:
        m.add_scan(stamp, stamp, now_ns=0)
    matches = m.pop_ready(now_ns=10**12)
    assert sorted(x.scan for x in matches) == sorted(scans)
    for match in matches:
        check_nearest(match, images, offset, tolerance)
    assert sum(m.counters["front"].values()) == len(scans)


@settings(max_examples=300, deadline=None)
@given(
    images=st.lists(stamps, max_size=12, unique=True).map(sorted),
    scans=st.lists(stamps, min_size=1, max_size=6).map(sorted),
    offset=st.integers(-100, 100).map(lambda ms: ms * MS),
    tolerance=st.integers(0, 200).map(lambda ms: ms * MS),
    interleaving=st.randoms(use_true_random=False),
)
def test_equals_brute_force_for_any_interleaving_of_ordered_streams(images, scans, offset, tolerance, interleaving):
    m = ScanMatcher({"front": CameraTiming(offset, tolerance)}, history=100)
    queue = {"scan": list(scans), "front": list(images)}
    while any(queue.values()):
        kind = interleaving.choice([k for k, left in queue.items() if left])
        stamp = queue[kind].pop(0)
        if kind == "scan":
            m.add_scan(stamp, stamp, now_ns=0)
        else:
            m.add_image("front", stamp, stamp)
    matches = m.pop_ready(now_ns=10**12)
    assert sorted(x.scan for x in matches) == scans
    for match in matches:
        check_nearest(match, images, offset, tolerance)


def check_nearest(match, images, offset, tolerance):
    got = front(match)
    if not images:
        assert got.outcome == "missing"
        return
    nearest = min(images, key=lambda s: (abs(s + offset - match.stamp_ns), s))
    assert got.stamp_ns == nearest
    assert got.gap_ns == nearest + offset - match.stamp_ns
    if abs(got.gap_ns) <= tolerance:
        assert (got.outcome, got.image) == ("paired", nearest)
    else:
        assert got.outcome == ("too_far" if max(images) + offset >= match.stamp_ns else "stale")


@settings(max_examples=100, deadline=None)
@given(
    events=st.lists(st.tuples(st.sampled_from(["scan", "a", "b"]), st.integers(0, 10**10)), max_size=60),
    steps=st.randoms(use_true_random=False),
)
def test_every_scan_comes_out_exactly_once_whatever_the_stamps(events, steps):
    m = ScanMatcher({"a": CameraTiming(), "b": CameraTiming(7)}, history=4)
    now, came_in, came_out = 0, 0, []
    for kind, stamp in events:
        now += steps.randint(0, 50 * MS)
        if kind == "scan":
            m.add_scan(stamp, came_in, now)
            came_in += 1
        else:
            m.add_image(kind, stamp, stamp)
        came_out += [x.scan for x in m.pop_ready(now)]
    came_out += [x.scan for x in m.pop_ready(now + 10**9)]
    assert sorted(came_out) == list(range(came_in))
    assert m.waiting == 0
    assert all(sum(counts.values()) == came_in for counts in m.counters.values())
