"""Masks and images in NIfTI files, and the folder of a measured study."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jdl_keras.evaluation.figures import save_figure
from jdl_keras.quantification.bullseye import bullseye_figures
from jdl_keras.quantification.config import QuantifyConfig
from jdl_keras.quantification.insertion import insertions_of_cavity
from jdl_keras.quantification.masks import WallMasks, base_first
from jdl_keras.quantification.measurement import Measurements, measure
from jdl_keras.quantification.tables import texts
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.files import write_text
from tfrecords_tools.labels import Tissue
from tfrecords_tools.sources.config import NiftiConfig
from tfrecords_tools.sources.labelled import MaskPatterns
from tfrecords_tools.sources.nifti import LabelledVolume, read_labelled

WRITTEN = (
    *("measurements.json", "measurements.csv", "slices.csv", "segments.csv"),
    *("bullseye-area.png", "bullseye-transmurality.png"),
)
"""What a folder of measurements may hold."""

_ANY = "{study}"


@dataclasses.dataclass(frozen=True)
class MaskFiles:
    """The files of one study, on one grid.

    Attributes:
        masks: a label map, or the mask of the myocardium if one of scar is given too.
        scar: mask of scar.
        mvo: mask of MVO; only beside one of scar.
        image: the LGE image; without it there are no threshold methods.
        remote: mask of wall without enhancement, drawn by somebody.
        rv: mask of the right ventricle's cavity, whose border tells the insertion.
    """

    masks: Path
    scar: Path | None = None
    mvo: Path | None = None
    image: Path | None = None
    remote: Path | None = None
    rv: Path | None = None

    def __post_init__(self):
        if self.mvo and not self.scar:
            raise RefusedError(
                "mvo", "CONFIG", "needs a mask of scar beside it: --scar"
            )
        if self.remote and not self.image:
            raise RefusedError("remote", "CONFIG", "needs the image: --image")


def measure_files(files: MaskFiles, config: QuantifyConfig) -> Measurements:
    """Reads and measures one study.

    Raises:
        RefusedError: what `read_labelled` and `measure` refuse.
    """
    volume = _read(files, config)
    labels, affine, told = _base_first(volume.label_map, volume, config)
    try:
        masks = WallMasks(labels, affine, bool(files.scar) or _names_scar(config))
        return measure(
            masks,
            pixels=_image(files, volume, config),
            insertions_mm=_insertions_mm(files, masks, volume, config),
            remote=_region(files, files.remote, config),
            remote_rule=config.remote_rule,
            fwhm_base=config.fwhm_base,
            fill_holes=config.fill_holes,
            warnings=(*volume.warnings, *told),
        )
    except RefusedError as error:
        names = ("masks", "image", "remote", "rv")
        paths = {name: getattr(files, name) for name in names}
        subject = paths.get(error.subject) or error.subject
        raise RefusedError(subject, error.code, error.reason) from None


def write_measurements(found: Measurements, folder: Path) -> None:
    """Writes the files of a study into `folder`, and removes those it has no more."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in WRITTEN:
        (folder / name).unlink(missing_ok=True)
    if found.segments:
        for name, figure in bullseye_figures(found.segments).items():
            save_figure(figure, folder / name)
    for name, text in texts(found).items():
        write_text(folder / name, text)


def check_folder(folder: Path, overwrite: bool) -> None:
    """Refuses a folder that holds measurements already.

    Raises:
        RefusedError: `EXISTS`.
    """
    if (folder / "measurements.json").exists() and not overwrite:
        reason = "measurements are there; add --overwrite or choose another folder"
        raise RefusedError(folder, "EXISTS", reason)


def _names_scar(config: QuantifyConfig) -> bool:
    return Tissue.SCAR in config.labels.values()


def _read(files: MaskFiles, config: QuantifyConfig) -> LabelledVolume:
    if not files.scar:
        return _read_layers(files, [files.masks], MaskPatterns(), config)
    patterns = MaskPatterns(None, _ANY, _ANY, _ANY if files.mvo else None)
    paths = [path for path in (files.masks, files.scar, files.mvo) if path]
    return _read_layers(files, paths, patterns, config)


def _read_layers(
    files: MaskFiles,
    paths: Sequence[Path],
    patterns: MaskPatterns,
    config: QuantifyConfig,
) -> LabelledVolume:
    reading = NiftiConfig(
        images=_ANY,
        references=_ANY,
        masks=patterns,
        labels=config.labels,
        slice_order=config.slice_order,
        spacing=config.spacing,
        orientation=config.orientation,
        slice_axis=config.slice_axis,
    )
    return read_labelled(files.image or files.masks, paths, reading)


def _base_first(
    array: np.ndarray, volume: LabelledVolume, config: QuantifyConfig
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    return base_first(array, volume.affine, config.slice_order)


def _image(
    files: MaskFiles, volume: LabelledVolume, config: QuantifyConfig
) -> np.ndarray | None:
    if files.image is None:
        return None
    return _base_first(volume.pixels.astype(np.float64), volume, config)[0]


def _region(
    files: MaskFiles, path: Path | None, config: QuantifyConfig
) -> np.ndarray | None:
    """Where another mask of the study is not 0."""
    if path is None:
        return None
    patterns = MaskPatterns(myocardium=_ANY)
    volume = _read_layers(files, [path], patterns, config)
    return _base_first(volume.label_map > 0, volume, config)[0]


def _insertions_mm(
    files: MaskFiles,
    masks: WallMasks,
    volume: LabelledVolume,
    config: QuantifyConfig,
) -> np.ndarray | None:
    cavity = _region(files, files.rv, config)
    if cavity is not None:
        if config.insertions_mm or config.insertion_voxels:
            reason = "tells the insertion, which is given too; leave one of them out"
            raise RefusedError("rv", "CONFIG", reason)
        return insertions_of_cavity(masks, cavity)
    from_voxels = [
        (volume.file_affine @ [*voxel, 1])[:3] for voxel in config.insertion_voxels
    ]
    points = [*config.insertions_mm, *from_voxels]
    return np.array(points, float) if points else None
