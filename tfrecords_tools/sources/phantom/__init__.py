"""Synthetic LGE patients with known scar."""

from tfrecords_tools.sources.config import PhantomConfig
from tfrecords_tools.sources.phantom.cohort import Truth, source, studies, truth

__all__ = ["PhantomConfig", "Truth", "source", "studies", "truth"]
