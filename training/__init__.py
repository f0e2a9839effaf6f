"""Offline: teachers label images, labels are lifted onto points, students are distilled."""
