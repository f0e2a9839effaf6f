"""Recordings and data sets as streams of samples."""
