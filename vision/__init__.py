"""Handwriting (ocr) and 3D detection (pointcloud); its rooms are not built yet."""
