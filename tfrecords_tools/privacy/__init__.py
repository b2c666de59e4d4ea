"""Looks for a source's identifiers in what was made from it."""
