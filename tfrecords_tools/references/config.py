"""What the names, codes and values in reference files mean: the one table of it."""

import dataclasses
import enum
import math
import re
from typing import Literal

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import TASKS


class Structure(enum.Enum):
    """What somebody drew: a tissue, or an outline that tissues follow from."""

    IGNORED = "ignored"
    EPICARDIUM = "epicardium"
    """All that the outer contour encloses: the wall is what the inner one leaves."""
    MYOCARDIUM = "myocardium"
    """The wall, with or without its scar."""
    BLOOD_POOL = "blood_pool"
    SCAR = "scar"
    MVO = "mvo"


_NAMES = {
    Structure.IGNORED: "background, rv, right ventricle, rv blood pool, rv cavity, "
    "rv endo, rv endocardium, rv epi, rv epicardium, remote",
    Structure.EPICARDIUM: "epicardium, epi, lv epicardium, lv epi, SCT:6871001",
    Structure.MYOCARDIUM: "myocardium, myo, lv myocardium, lv myo, lv wall, wall, "
    "left ventricular myocardium, left ventricle myocardium, healthy myocardium, "
    "normal myocardium, SCT:74281007, SCT:49848007, SRT:T-32020, SRT:T-32620",
    Structure.BLOOD_POOL: "blood pool, lv blood pool, blood, cavity, lv cavity, lv, "
    "left ventricle, endocardium, endo, lv endocardium, lv endo, "
    "SCT:87878005, SRT:T-32600",
    Structure.SCAR: "scar, scar tissue, infarct, infarction, myocardial infarction, "
    "lge, enhancement, hyperenhancement, fibrosis, "
    "SCT:12402003, SCT:55641003, SCT:22298006, SRT:M-78060, SRT:D3-15000",
    Structure.MVO: "mvo, no reflow, noreflow, microvascular obstruction",
}


def _normalised(name: str) -> str:
    return " ".join(re.sub(r"[\s_-]+", " ", name).casefold().split())


def _code(name: str) -> str:
    """Codes keep their hyphens, or SRT:T-32620 would be SRT:T 32620."""
    return name.strip().casefold() if ":" in name else _normalised(name)


NAMES = {
    _code(name): structure
    for structure, names in _NAMES.items()
    for name in names.split(",")
}
"""Names and codes (scheme:value) as they are compared: lower case, single spaces."""

_ANATOMY = """
anterior aorta apex apical area artery atrial atrium basal base body border contour
core edema endocardial epicardial external fat free gray grey heart helper inferior
inner insertion la lateral left line liver lung mass mid middle mitral muscle oedema
outer papillary pericardial pericardium point posterior pulmonary ra region right ring
roi rvip segment septal septum skin spine spleen stomach structure thrombus total
tricuspid tumor tumour valve vein ventricle zone
"""

VALUES = {
    1: Structure.BLOOD_POOL,
    2: Structure.MYOCARDIUM,
    3: Structure.SCAR,
    4: Structure.MVO,
}
"""Values of a label volume, numbered as `labels.Tissue`."""


@dataclasses.dataclass(frozen=True)
class ReferenceConfig:
    """How reference contours are understood.

    Args:
        names: what segments and ROIs of a name, or of a code such as SCT:74281007,
            are, beside the names that are known (case, spaces, - and _ do not count):
            IGNORED, EPICARDIUM, MYOCARDIUM, BLOOD_POOL, SCAR or MVO. Such as
            '{"inner ring": BLOOD_POOL}'.
        values: what the values of label volumes without names are; 0 is background.
        tasks: the tasks that label volumes without names are a reference of.
        scar_rule: how scar is rebuilt in cvi42 workspaces, which do not store it:
            none (myocardium only), nsd (remote mean + scar_sd deviations) or fwhm
            (half way from fwhm_base to the maximum of the enhanced region).
        scar_sd: deviations of nsd.
        fwhm_base: remote (mean of the remote contour), minimum (of the myocardium) or
            zero, which is right for magnitude images only.

    Raises:
        RefusedError: `CONFIG`, for a value that cannot be meant.
    """

    names: dict[str, Structure] = dataclasses.field(default_factory=dict)
    values: dict[int, Structure] = dataclasses.field(
        default_factory=lambda: dict(VALUES)
    )
    tasks: list[str] = dataclasses.field(default_factory=lambda: list(TASKS))
    scar_rule: Literal["none", "nsd", "fwhm"] = "none"
    scar_sd: float = 5.0
    fwhm_base: Literal["remote", "minimum", "zero"] = "remote"

    def __post_init__(self):
        if not self.tasks or set(self.tasks) - set(TASKS):
            raise RefusedError("tasks", "CONFIG", f"expected some of {[*TASKS]}")
        if not 0 < self.scar_sd < math.inf:
            reason = f"expected a positive number, got {self.scar_sd}"
            raise RefusedError("scar_sd", "CONFIG", reason)
        if self.values.get(0, Structure.IGNORED) is not Structure.IGNORED:
            raise RefusedError("values.0", "CONFIG", "0 is the background")

    def structure(self, subject: object, *names: str) -> Structure:
        """What the first known of a thing's `names` says it is.

        Raises:
            RefusedError: `LABELS` if none of them is known.
        """
        table = NAMES | {_code(name): found for name, found in self.names.items()}
        known = [table[_code(name)] for name in names if _code(name) in table]
        if not known:
            reason = f"{shown(names[0])} is no known structure; say what it is, or "
            reason += "IGNORED, to the source dicom in drawn.names"
            raise RefusedError(subject, "LABELS", reason)
        return known[0]

    def structure_of_value(self, subject: object, value: int) -> Structure:
        """What `value` of a label volume without names is.

        Raises:
            RefusedError: `LABELS` if nobody said.
        """
        if value not in self.values:
            reason = f"value {value} is no known structure; say what it is, or IGNORED,"
            reason += " to the source dicom in drawn.values"
            raise RefusedError(subject, "LABELS", reason)
        return self.values[value]


_WORDS = frozenset(" ".join([*NAMES, *_ANATOMY.split()]).split())


def shown(name: str) -> str:
    """A name from a file as it may stand in a message: of anatomical words only.

    Whoever draws may call a contour by the name of a patient or of a reader.
    """
    words = _normalised(name).split()
    is_known = all(w in _WORDS or (w.isdecimal() and len(w) < 3) for w in words)
    plain = 0 < len(name) <= 40 and name.isascii() and name.isprintable()
    return f"'{name}'" if plain and is_known else "a name that cannot be shown"
