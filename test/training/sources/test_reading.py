"""One sample that the system refuses to read is a corrupt sample, not the end of a run."""

import pytest
from painted_source import PaintedSource

from ov_seg_ros.core.errors import InputError
from training.sources.reading import read_sample


class Forbidden(PaintedSource):
    def load_sample(self, index):
        if index == 1:
            raise PermissionError(13, "Permission denied", "scans/000001.bin")
        return super().load_sample(index)


def test_a_file_that_cannot_be_read_is_named():
    source = Forbidden(3)
    assert read_sample(source, 0).key == "painted/000000"
    with pytest.raises(InputError, match=r"sample 1 of source painted cannot be read: scans/000001\.bin Permission"):
        read_sample(source, 1)


def test_what_the_source_says_itself_stays():
    with pytest.raises(InputError, match=r"^scan 0 is cut off$"):
        read_sample(PaintedSource(2, frozenset({0})), 0)
