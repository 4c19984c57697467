"""Handwriting (ocr) and 3D detection (pointcloud)."""
