"""Where kernels of the GPU run in tests: on one, or in Triton's interpreter, which ``conftest.py`` chooses then."""

from __future__ import annotations

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
