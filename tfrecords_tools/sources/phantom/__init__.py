"""Synthetic LGE patients with known scar."""

from tfrecords_tools.sources.phantom.cohort import PhantomConfig, Truth, studies, truth

__all__ = ["PhantomConfig", "Truth", "studies", "truth"]
