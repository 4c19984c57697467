"""Clouds and labels in the layouts of data sets and of common point-cloud files."""
