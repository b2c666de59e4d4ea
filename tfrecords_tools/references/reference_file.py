"""A reference file that is found but not read: what it says it was drawn on."""

import dataclasses
from pathlib import Path
from typing import Literal

from tfrecords_tools.stack import Grid

Kind = Literal["nifti", "nrrd", "seg", "rtstruct", "cvi42", "text"]


@dataclasses.dataclass(frozen=True)
class ReferenceFile:
    """One reference, as `index` finds it.

    Attributes:
        kind: its format.
        files: what it is read from; several for contours as text.
        image_uids: SOPInstanceUIDs of the images that it was drawn on.
        study_uid: StudyInstanceUID; empty if it says none. As the other identifiers,
            never to be written anywhere.
        frame_of_reference_uid: empty if it says none.
        grid: of a volume, as its header states it.
        fault: code and reason, if already its head cannot be read.
    """

    kind: Kind
    files: tuple[Path, ...]
    image_uids: frozenset[str] = frozenset()
    study_uid: str = ""
    frame_of_reference_uid: str = ""
    grid: Grid | None = dataclasses.field(default=None, compare=False)
    fault: tuple[str, str] | None = None

    @property
    def path(self) -> Path:
        """Where to look for it: the file, or the folder of several."""
        return self.files[0] if len(self.files) == 1 else self.files[0].parent
