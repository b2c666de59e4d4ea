"""Trained runs as models that servers load."""
