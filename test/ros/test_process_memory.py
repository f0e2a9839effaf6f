"""What is freed after one scan serves the next, without the kernel clearing it again."""

import subprocess
import sys

import pytest

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
