"""Thin entry for tools that look for setup.py; see pyproject.toml."""

from setuptools import setup

setup()
