"""Sparse convolutions on the CPU, compiled by Numba for the processor they run on."""
