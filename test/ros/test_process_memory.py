"""What is freed after one scan serves the next, without the kernel clearing it again."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from ov_seg_ros.ros import process_memory
from ov_seg_ros.ros.process_memory import FreeMemory

PROGRAM = """
import ctypes, resource, sys
from ov_seg_ros.ros.process_memory import keep_freed_memory
kept = sys.argv[1] == "keep" and keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def use():
    blocks = [libc.malloc(4 << 20) for _ in range(5)]
    for block in blocks:
        ctypes.memset(block, 1, 4 << 20)
    for block in blocks:
        libc.free(block)

use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(word, **variables):
    """Whether memory was kept, and the page faults of ten times 20 MiB."""
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, word], capture_output=True, text=True, check=True, env=variables
    )
    return tuple(int(number) for number in process.stdout.split())


def test_freed_memory_is_kept():
    kept, faults = page_faults("keep")
    if not kept:
        pytest.skip("the C library here is not glibc")
    assert faults < 1000
    assert page_faults("leave")[1] > 10 * max(faults, 100)


def test_settings_of_the_user_win():
    assert page_faults("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] == 0


def test_free_memory_is_given_back_when_the_process_has_grown(monkeypatch):
    resident, given_back = [300], []
    monkeypatch.setattr(process_memory, "resident_bytes", lambda: resident[-1] << 20)
    library = SimpleNamespace(malloc_trim=lambda keep: (given_back.append(keep), resident.append(330)))
    monkeypatch.setattr(process_memory, "ctypes", SimpleNamespace(CDLL=lambda name: library))
    memory = FreeMemory()
    for megabytes in (350, 395):
        resident.append(megabytes)
        assert not memory.give_back()
    resident.append(396)
    assert memory.give_back()
    assert given_back == [0]
    assert not memory.give_back()
    for megabytes, has_grown in ((425, False), (310, False), (405, False), (406, True)):  # it was as small as 310
        resident.append(megabytes)
        assert memory.give_back() == has_grown
    assert given_back == [0, 0]


PIECES = """
import ctypes
from ov_seg_ros.ros.process_memory import FreeMemory, keep_freed_memory, resident_bytes
print(int(keep_freed_memory()))
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
memory, before = FreeMemory(), resident_bytes()
blocks = [libc.malloc(1 << 20) for _ in range(300)]
for block in blocks:
    ctypes.memset(block, 1, 1 << 20)
for block in blocks[:-1]:  # the last one keeps the C library from shrinking the heap
    libc.free(block)
grown = resident_bytes() - before
print(grown >> 20, int(memory.give_back()), (resident_bytes() - before) >> 20, int(memory.give_back()))
"""


def test_pieces_that_nobody_uses_are_given_back():
    process = subprocess.run([sys.executable, "-c", PIECES], capture_output=True, text=True, check=True)
    kept, grown, first, left, second = (int(number) for number in process.stdout.split())
    if not kept:
        pytest.skip("the C library here is not glibc, or has settings of the user")
    assert (grown > 250, first, left < 30, second) == (True, 1, True, 0)


def test_the_node_asks_once_a_second(start):
    asked = []
    rig = start(free_memory=SimpleNamespace(give_back=lambda: asked.append(True)))
    rig.spin_until(lambda: asked)
