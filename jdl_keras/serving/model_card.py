"""`model_card.json`: what a version of a served model is, takes, gives and is for."""

import dataclasses
import json
from pathlib import Path

from jdl_keras.inference.calibration import Calibration
from jdl_keras.inference.mask_rule import MaskRule
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import read_bounded, sha256, write_text
from tfrecords_tools.geometry import PIXEL_SPACING_MM
from tfrecords_tools.strict_json import strictly

CARD = "model_card.json"

LARGEST_CARD = 2**24
"""Bytes; a card of hundreds of kilobytes is a long one."""

MODALITY = "cardiac MR, late gadolinium enhancement, short-axis slices"

INTENDED_USE = (
    "Research use only. Draws left ventricular myocardium and scar in short-axis LGE "
    "images, for a person to check. Not a medical device; no basis for care."
)

SPACING = "{} to {} mm, rows then columns".format(*PIXEL_SPACING_MM)

INPUTS = {
    "images": "float32; B slices (B, H, W), or B studies of S slices (B, S, H, W), of "
    "any size; intensities as acquired, magnitude or PSIR, any finite range, one "
    "channel; scaled inside the model",
    "spacing_mm": f"float32 (B, 2): distances of neighbouring pixels, {SPACING}",
    "examples": "string (B,): records of tfrecords_tools, all of one size",
    "rotation_degrees": "float32 (B,): by which the grid is turned about its centre",
}

OUTPUTS = {
    "myocardium": "float32 in [0, 1], on the input's own grid: probability of the left "
    "ventricular wall, scar included",
    "scar": "float32 in [0, 1], on the input's own grid: probability of enhanced wall, "
    "microvascular obstruction included",
    "reach": "float32 in [0, 1]: how much of a pixel the turned grid reaches",
}

LIMITS = [
    "Measured on the record set and split named here only; other scanners, sequences, "
    "centres and diseases may give other results.",
    "Finds something in any image: it does not notice that one is no short-axis LGE.",
    "A slice by itself is cropped around the wrong place more often than a study, "
    "whose slices agree on where the heart is; send stacks to the signature `study`.",
    "Nothing is found where the crop around the heart does not reach.",
]


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What a reader, a client and `predict` need to know of a version.

    Attributes:
        version: number of the folder.
        package_version: of what exported it.
        method: how the networks of the tasks are wired.
        preset: size of the networks.
        message: what `jdl` passes on, see `config.MessageConfig`.
        parameters: numbers that were learned, those of the localiser included.
        grid: what the networks see, see `config.GridConfig`.
        rotations: whose maps are averaged.
        signatures: names of inputs and of outputs, by signature.
        inputs: what each of them is.
        outputs: what each of them is.
        mask_rule: how masks are made of maps.
        calibration: of the run, see `inference.calibration`; None if it has none.
        metrics: `summary.json` of the run by split: means with 95 % intervals.
        weights_sha256: of the run's `model.keras`.
        record_set_sha256: of what the run was trained on.
        files: SHA-256 of every other file of the version, by its path in it.
        precision: in which the networks compute.
        format: of this file.
        modality: of the images.
        intended_use: what it is for.
        limits: what to beware of.
    """

    version: int
    package_version: str
    method: str
    preset: str
    message: dict
    parameters: int
    grid: dict
    rotations: int
    signatures: dict
    inputs: dict[str, str]
    outputs: dict[str, str]
    mask_rule: MaskRule
    calibration: Calibration | None
    metrics: dict
    weights_sha256: str
    record_set_sha256: str
    files: dict[str, str]
    precision: str = "float32"
    format: int = 1
    modality: str = MODALITY
    intended_use: str = INTENDED_USE
    limits: list[str] = dataclasses.field(default_factory=lambda: LIMITS)


def write_card(folder: Path, card: ModelCard) -> None:
    """Writes the card of a version; its other files are there already."""
    card = dataclasses.replace(card, files=checksums(folder))
    text = json.dumps(dataclasses.asdict(card), indent=1, allow_nan=False)
    write_text(folder / CARD, text + "\n")


def read_card(path: Path) -> ModelCard:
    """The card of a version.

    Args:
        path: of the version's folder, or of the card by itself.

    Raises:
        RefusedError: if it is missing or something else.
    """
    path = path / CARD if path.is_dir() else path
    content = read_bounded(path, LARGEST_CARD)
    try:
        return strictly(ModelCard, json.loads(content), "card")
    except (ValueError, RecursionError) as error:
        raise RefusedError(path, "CORRUPT", f"{error}; export again") from None


def newest_version(path: Path) -> Path | None:
    """The folder of a version: `path`, or the newest one in it; None without any."""
    if (path / CARD).is_file():
        return path
    versions = [card.parent for card in path.glob(f"*/{CARD}")]
    numbered = [version for version in versions if version.name.isdecimal()]
    return max(numbered, key=lambda version: int(version.name), default=None)


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a version but its card, by its path in it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: sha256(path) for name, path in names.items() if name != CARD}


def verify(folder: Path, card: ModelCard) -> None:
    """Checks every file of a version against its card.

    Raises:
        RefusedError: `CORRUPT`, with the file that is not what was exported.
    """
    found = checksums(folder)
    for name in sorted({*found, *card.files}):
        if found.get(name) != card.files.get(name):
            reason = f"not what its {CARD} lists; copy the version anew or export again"
            raise RefusedError(folder / name, "CORRUPT", reason)
