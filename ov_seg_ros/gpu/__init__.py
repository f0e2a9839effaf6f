"""Sparse convolution on a GPU: maps made by torch, kernels written in Triton. Nothing here waits for the GPU."""
