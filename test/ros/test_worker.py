import threading

import pytest

from ov_seg_ros.ros.worker import LatestWorker


class Gate:
    """Work that a test lets through one job at a time."""

    def __init__(self):
        self.done = []
        self.entered = threading.Semaphore(0)
        self.leave = threading.Semaphore(0)

    def __call__(self, job):
        self.entered.release()
        assert self.leave.acquire(timeout=5)
        self.done.append(job)


@pytest.fixture
def run():
    workers = []

    def make(urgent, spare=lambda job: None, **options):
        workers.append(LatestWorker(urgent, spare, **options))
        workers[-1].start()
        return workers[-1]

    yield make
    for worker in workers:
        worker.stop(timeout_s=5)


def test_the_latest_job_wins(run):
    gate = Gate()
    worker = run(gate)
    worker.submit(0)
    gate.entered.acquire(timeout=5)
    for job in range(1, 6):
        worker.submit(job)
    assert worker.waiting == 2
    gate.leave.release(2)
    gate.entered.acquire(timeout=5)
    assert worker.stop(timeout_s=5)
    assert gate.done == [0, 5]
    assert worker.dropped == 4


def test_a_longer_queue_keeps_order_and_drops_the_oldest(run):
    gate = Gate()
    worker = run(gate, queue_size=3)
    worker.submit(0)
    gate.entered.acquire(timeout=5)
    for job in range(1, 6):
        worker.submit(job)
    gate.leave.release(4)
    for _ in range(3):
        gate.entered.acquire(timeout=5)
    worker.stop(timeout_s=5)
    assert gate.done == [0, 3, 4, 5]
    assert worker.dropped == 2


def test_urgent_jobs_go_before_spare_ones(run):
    gate = Gate()
    worker = run(gate, spare=gate)
    worker.submit("in work")
    gate.entered.acquire(timeout=5)
    worker.submit_spare("spare")
    worker.submit("urgent")
    gate.leave.release(3)
    gate.entered.acquire(timeout=5)
    gate.entered.acquire(timeout=5)
    worker.stop(timeout_s=5)
    assert gate.done == ["in work", "urgent", "spare"]


def test_an_exception_is_told_and_the_worker_goes_on(run):
    errors, done = [], threading.Event()

    def work(job):
        if job == "bad":
            raise ValueError("no good")
        done.set()

    worker = run(work, on_error=errors.append, queue_size=2)
    worker.submit("bad")
    worker.submit("good")
    assert done.wait(5)
    assert [str(error) for error in errors] == ["no good"]


def test_stop_counts_what_waited_and_refuses_what_comes_later(run):
    gate = Gate()
    worker = run(gate)
    worker.submit(0)
    gate.entered.acquire(timeout=5)
    worker.submit(1)
    assert not worker.stop(timeout_s=0.01)
    worker.submit(2)
    assert worker.dropped == 2
    gate.leave.release()


def test_works_again_after_a_stop(run):
    done = threading.Event()
    worker = run(lambda job: done.set())
    assert worker.stop()
    worker.start()
    worker.submit(0)
    assert done.wait(5)
