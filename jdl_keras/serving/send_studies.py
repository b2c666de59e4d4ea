"""Sends studies to a server and writes what it answers, study by study."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jdl_keras.inference.inputs import Input, InputStudy, nifti_image
from jdl_keras.inference.mask_rule import MaskRule
from jdl_keras.inference.nifti_output import write_volume
from jdl_keras.inference.result_folders import PREDICTION, fill_folders
from jdl_keras.quantification.tables import RESEARCH_USE_ONLY
from jdl_keras.serving.servers import Maps, Server
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import write_text
from tfrecords_tools.labels import Tissue
from tfrecords_tools.study import Study


def send_studies(
    server: Server,
    rule: MaskRule,
    studies: Input,
    out: Path,
    made_by: Mapping,
    overwrite: bool = False,
) -> tuple[int, int]:
    """Predicts every study on a server; one that is refused costs itself only.

    Args:
        server: that predicts.
        rule: makes masks of its maps.
        studies: to send.
        out: where each study gets a folder.
        made_by: what decides the results; see `fill_folders`.
        overwrite: predict again what is there.

    Returns:
        How many have results now, and how many were refused.

    Raises:
        ConnectionError: if nobody answers.
    """

    def write(folder: Path, one: InputStudy, study: Study) -> None:
        maps = _predicted(server, study)
        like = nifti_image(one.item)
        for task, values in maps.items():
            path = folder / f"{task}-probability.nii.gz"
            write_volume(path, values, study.affine, like)
        labels = label_map(rule.masks(study, maps))
        write_volume(folder / "labels.nii.gz", labels, study.affine, like)
        content = {
            "use": RESEARCH_USE_ONLY,
            "study": study.study_key,
            "made_by": made_by,
        }
        write_text(folder / PREDICTION, json.dumps(content, indent=1) + "\n")

    return fill_folders(studies, out, made_by, overwrite, write)


def _predicted(server: Server, study: Study) -> Maps:
    """The maps of a study; an error names it and not the server."""
    try:
        return server.predict(study.pixels, np.asarray(study.spacing_mm, np.float32))
    except RefusedError as error:
        raise RefusedError(study.study_key, error.code, error.reason) from None


def label_map(masks: Mapping[str, np.ndarray]) -> np.ndarray:
    """(S, H, W) uint8 of `Tissue`: scar laid over the wall.

    Args:
        masks: boolean (S, H, W) of scar, and of myocardium where it was predicted.
    """
    labels = np.full(masks["scar"].shape, Tissue.BACKGROUND, np.uint8)
    if "myocardium" in masks:
        labels[masks["myocardium"]] = Tissue.HEALTHY_MYOCARDIUM
    labels[masks["scar"]] = Tissue.SCAR
    return labels
