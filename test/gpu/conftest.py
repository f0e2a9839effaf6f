"""Kernels of these tests run on a GPU, or in Triton's interpreter."""

import triton_interpreter  # noqa: F401
