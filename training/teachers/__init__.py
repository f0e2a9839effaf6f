"""2D open-vocabulary segmentation models: image in, text-indexed segments out."""
