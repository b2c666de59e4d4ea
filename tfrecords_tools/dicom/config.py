"""What is taken from folders of DICOM files."""

import dataclasses
from typing import Literal

from tfrecords_tools.errors import RefusedError


@dataclasses.dataclass(frozen=True)
class DicomConfig:
    """What is taken from folders of DICOM files.

    Args:
        series: lge takes LGE short-axis stacks only; any takes, where a study has no
            LGE, a cine or any other short-axis stack (no scout, map, flow, perfusion).
        prefer: of an LGE with two reconstructions: psir or magnitude.
        phase: of a cine, counted from 0 in order of time.
        max_tilt_degrees: how far a short-axis plane may lie from a right angle to the
            usual long axis of hearts (left, anterior and inferior). The planes of the
            body lie at 54.7, long-axis planes near 90; 90 takes every orientation.

    Raises:
        RefusedError: `CONFIG`, for numbers that cannot be meant.
    """

    series: Literal["lge", "any"] = "lge"
    prefer: Literal["psir", "magnitude"] = "psir"
    phase: int = 0
    max_tilt_degrees: float = 45.0

    def __post_init__(self):
        bounds = {"phase": (0, 10_000), "max_tilt_degrees": (0, 90)}
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                reason = f"expected {low} to {high}, got {value}"
                raise RefusedError(name, "CONFIG", reason)
