"""One folder of results a study: whole or not at all, and never made twice."""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from jdl_keras.inference.inputs import Input, InputStudy
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import safe_name
from tfrecords_tools.progress import shown
from tfrecords_tools.study import Study

PREDICTION = "prediction.json"
"""Says what was found and what made it; its `made_by` is compared."""

Write = Callable[[Path, InputStudy, Study], None]
"""Writes all files of a study into an empty folder."""


def fill_folders(
    studies: Input, out: Path, made_by: Mapping, overwrite: bool, write: Write
) -> tuple[int, int]:
    """Writes the results of every study; one that is refused costs itself only.

    A study whose results are whole and were made the same way is left as it is.

    Args:
        studies: to go through.
        out: where each study gets a folder with the name of its key.
        made_by: what decides the results besides the study, see `PREDICTION`.
        overwrite: replace what is there.
        write: writes the files of a study, `prediction.json` among them.

    Returns:
        How many have results now, and how many were refused.
    """
    out.mkdir(parents=True, exist_ok=True)
    refused = 0
    for one in shown(studies.studies, "predicting", studies.count):
        try:
            folder = out / safe_name(one.key)
            if not overwrite and _is_done(folder, made_by):
                continue
            study = one.read()
            if isinstance(study, RefusedError):
                raise study
            with _whole_folder(folder) as stage:
                write(stage, one, study)
        except RefusedError as error:
            print(error, file=sys.stderr)
            refused += 1
    return studies.count - refused, refused


def read_prediction(folder: Path) -> dict | None:
    """What `prediction.json` of a study holds; None without a readable one."""
    try:
        return json.loads((folder / PREDICTION).read_bytes())
    except (OSError, ValueError):
        return None


def _is_done(folder: Path, made_by: Mapping) -> bool:
    """Whether a study has these results already.

    Raises:
        RefusedError: `EXISTS` if it has others.
    """
    if not folder.exists():
        return False
    found = read_prediction(folder)
    if found and found.get("made_by") == json.loads(json.dumps(made_by)):
        return True
    reason = "has results of other networks or settings; add --overwrite"
    raise RefusedError(folder, "EXISTS", reason)


@contextlib.contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to write to; on success it takes the place of `folder`."""
    stage = folder.with_name(f".tmp-{folder.name}")
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    try:
        yield stage
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(stage, folder)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
