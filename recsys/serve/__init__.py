"""Slates over HTTP: states in a store, clicks in micro-batches, answers that can be made again."""
