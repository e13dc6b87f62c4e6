"""Keras architectures, one per file."""
