"""References in cvi42 workspaces: contours of the wall, scar rebuilt by a named rule.

cvi42 draws on a grid four times as fine and fills it there; every fourth sample is
kept. That is: points are rounded to quarters of a pixel, and a pixel belongs to the
contour if its centre does. Filling at the image's own size would be 5 to 10 % more.
"""

import re
from pathlib import Path

import numpy as np

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.references import polygons
from tfrecords_tools.references.config import ReferenceConfig, Structure
from tfrecords_tools.references.cvi42_xml import read_workspace
from tfrecords_tools.references.painting import paint_contours
from tfrecords_tools.references.reference_file import ReferenceFile
from tfrecords_tools.references.scar_rules import scar_by_rule
from tfrecords_tools.stack import Reference, Stack

_GRID = 4

_ENDO, _EPI, _REMOTE, _ENHANCED, _EXCLUDED, _MVO = (
    "saendocardialContour",
    "saepicardialContour",
    "saReferenceMyoContour",
    "saEnhancementReferenceMyoContour",
    "excludeEnhancementAreaContour",
    "noReflowAreaContour",
)
_NAMES = (_ENDO, _EPI, _REMOTE, _ENHANCED, _EXCLUDED, _MVO)


def describe(path: Path) -> ReferenceFile:
    """What a workspace says it was drawn on.

    Raises:
        RefusedError: what `read_workspace` refuses; `UNSUPPORTED` for .cvi42ws.
    """
    if path.suffix.lower() == ".cvi42ws":
        reason = (
            "a binary cvi42 workspace; in cvi42 use Workspace > Export Workspace and "
            "the type .cvi42wsx (XML)"
        )
        raise RefusedError(path, "UNSUPPORTED", reason)
    workspace = read_workspace(path)
    drawn_on = (uid for uid, one in workspace.contours.items() if _known(one))
    studies = workspace.study_uids
    study_uid = next(iter(studies)) if len(studies) == 1 else ""
    return ReferenceFile("cvi42", (path,), frozenset(drawn_on), study_uid)


def read_cvi42(file: ReferenceFile, stack: Stack, config: ReferenceConfig) -> Reference:
    """The reference in a workspace, see `painting` for what counts as labelled.

    The wall is between endocardium and epicardium. Scar is what the rule of `config`
    finds there, without excluded areas, and the areas of no reflow; if the rule is
    none, or its contours are missing, the reference is of the myocardium only.

    Raises:
        RefusedError: what `read_workspace` refuses; `UNSUPPORTED`, `CONTOUR` or
            `LABELS`.
    """
    path, shape = file.path, stack.pixels.shape
    uids = [uid for uid, _ in stack.frames]
    if len(set(uids)) < len(uids):
        reason = "contours on multi-frame images: they do not say on which frame"
        raise RefusedError(path, "UNSUPPORTED", reason)
    drawn = {name: np.zeros(shape, bool) for name in _NAMES}
    workspace = read_workspace(path)
    for index, uid in enumerate(uids):
        for name, points in _known(workspace.contours.get(uid, {})):
            drawn[name][index] |= _fill(path, points, shape[1:])
    masks = {Structure.EPICARDIUM: drawn[_EPI], Structure.BLOOD_POOL: drawn[_ENDO]}
    if not drawn[_EPI].any():
        raise RefusedError(path, "CONTOUR", "no epicardial contour on these images")
    has_endo = drawn[_ENDO].any(axis=(1, 2), keepdims=True)
    wall = drawn[_EPI] & ~drawn[_ENDO] & has_endo
    found = scar_by_rule(stack.pixels, wall, drawn[_REMOTE], drawn[_ENHANCED], config)
    if found is None:
        return paint_contours(path, masks, (_no_scar(config),))
    scar, rule = found
    masks[Structure.MVO] = wall & drawn[_MVO]
    masks[Structure.SCAR] = scar & ~drawn[_EXCLUDED]
    return paint_contours(path, masks, (rule,))


def _no_scar(config: ReferenceConfig) -> str:
    if config.scar_rule == "none":
        return (
            "no reference of scar: workspaces store none; the source dicom rebuilds it "
            "with --drawn.scar_rule"
        )
    return f"no reference of scar: {config.scar_rule} needs contours that are not drawn"


def _known(contours: dict[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """The contours with a name of ours, its number (0001) taken off."""
    plain = ((re.sub(r"\d{4}$", "", name), points) for name, points in contours.items())
    return [(name, points) for name, points in plain if name in _NAMES]


def _fill(path: Path, points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    polygons.check(path, points, shape, dense=True)
    return polygons.fill(path, [np.rint(points * _GRID) / _GRID], shape)
