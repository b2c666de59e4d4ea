"""Inputs that a served model refuses, and the input that the answer must name."""

import numpy as np

RANDOM = np.random.default_rng(7)
IMAGES = RANDOM.gamma(2, 50, (1, 2, 24, 20)).astype(np.float32)
SPACING_MM = np.float32([[2.0, 2.0]])
GOOD = {"images": IMAGES, "spacing_mm": SPACING_MM}


def _with_pixel(value):
    images = IMAGES.copy()
    images[0, 1, 3, 4] = value
    return GOOD | {"images": images}


def _flat(slices):
    images = IMAGES.copy()
    images[0, slices] = 7
    return GOOD | {"images": images}


def _spacing(*rows):
    return GOOD | {"spacing_mm": np.float32(rows)}


OF_STUDIES = {
    "one axis too few": (GOOD | {"images": IMAGES[0]}, "images"),
    "one axis too many": (GOOD | {"images": IMAGES[None]}, "images"),
    "one number": (GOOD | {"images": np.float32(3)}, "images"),
    "no slice": (GOOD | {"images": IMAGES[:, :0]}, "images"),
    "no row": (GOOD | {"images": IMAGES[:, :, :0]}, "images"),
    "no study": ({"images": IMAGES[:0], "spacing_mm": SPACING_MM[:0]}, "images"),
    "one constant slice": (_flat(1), "images: CONSTANT: one value only in slice 1"),
    "all slices constant": (_flat(slice(None)), "images: CONSTANT"),
    "infinity": (_with_pixel(np.inf), "images: NOT_FINITE"),
    "no spacing": ({"images": IMAGES}, "spacing_mm"),
    "no images": ({"spacing_mm": SPACING_MM}, "images"),
    "no input": ({}, "images"),
    "one input too many": (GOOD | {"patient": SPACING_MM}, "patient"),
    "wrong name": ({"image": IMAGES, "spacing_mm": SPACING_MM}, "image"),
    "spacing 0": (_spacing([0, 2]), "spacing_mm: BAD_GEOMETRY"),
    "negative spacing": (_spacing([2, -2]), "spacing_mm: BAD_GEOMETRY"),
    "spacing in metres": (_spacing([0.0015, 0.0015]), "spacing_mm: BAD_GEOMETRY"),
    "absurd spacing": (_spacing([1000, 2]), "spacing_mm: BAD_GEOMETRY"),
    "infinite spacing": (_spacing([2, np.inf]), "spacing_mm"),
    "spacing of three axes": (_spacing([2, 2, 8]), "spacing_mm"),
    "one spacing": (_spacing([2]), "spacing_mm"),
    "spacing without a batch": (GOOD | {"spacing_mm": SPACING_MM[0]}, "spacing_mm"),
    "spacings nested": (GOOD | {"spacing_mm": SPACING_MM[None]}, "spacing_mm"),
}
"""Of the signature `study`."""
