"""The student at run time: model file, execution provider, segmenter (ONNX Runtime)."""
