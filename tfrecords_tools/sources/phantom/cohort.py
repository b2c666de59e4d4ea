"""The cohort: who has which heart, the study a scanner would deliver, and the truth."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfrecords_tools.labels import MYOCARDIAL_DENSITY_G_PER_ML, TASKS, Tissue
from tfrecords_tools.pseudonyms import PUBLIC_KEY, pseudonym
from tfrecords_tools.sources.config import PhantomConfig
from tfrecords_tools.sources.phantom import torso as body
from tfrecords_tools.sources.phantom.acquisition import acquire, draw_scan
from tfrecords_tools.sources.phantom.anatomy import Ventricle, draw_ventricle
from tfrecords_tools.sources.phantom.organs import Canvas, paint_surroundings
from tfrecords_tools.sources.phantom.rendering import paint_ventricle
from tfrecords_tools.sources.phantom.scars import Scar, draw_scars
from tfrecords_tools.sources.phantom.signal import draw_contrast
from tfrecords_tools.sources.phantom.stack import Stack, draw_stack
from tfrecords_tools.sources.phantom.wall import areas_mm2, label_map
from tfrecords_tools.sources.source import Source
from tfrecords_tools.study import Study

SOURCE = "phantom"


@dataclasses.dataclass(frozen=True)
class Truth:
    """What is known of a patient without any pixel.

    Areas of the continuous anatomy in the slices' middle planes, times slice spacing
    and density: what an observer with endlessly fine pixels would report from this
    stack. It is not the mass of the whole heart between the slices.

    Attributes:
        myocardium_g: mass of the wall, scar and MVO included.
        scar_g: mass of the scar, MVO included.
        mvo_g: mass of the no-reflow core.
    """

    myocardium_g: float
    scar_g: float
    mvo_g: float

    @property
    def burden_percent(self) -> float:
        """Scar mass as a share of the myocardium's mass."""
        return 100 * self.scar_g / self.myocardium_g


@dataclasses.dataclass(frozen=True, eq=False)
class _Patient:
    ventricle: Ventricle
    scars: tuple[Scar, ...]
    stack: Stack


@dataclasses.dataclass(frozen=True)
class PhantomPatient:
    """A patient who is not drawn yet: key, and number in the cohort."""

    key: str
    index: int
    files: tuple[Path, ...] = ()


def source(config: PhantomConfig) -> Source:
    """The patients of a cohort, to be drawn when they are read."""
    keys = [_key(config.seed, index) for index in range(config.patients)]
    items = [PhantomPatient(key, index) for index, key in enumerate(keys)]
    settings = dataclasses.asdict(config)
    return Source(SOURCE, items, functools.partial(_read_item, config), settings)


def _read_item(config: PhantomConfig, item: PhantomPatient) -> Study:
    return _study(config, item.index)


def _key(seed: int, index: int) -> str:
    return pseudonym(f"{SOURCE}-{seed}-{index}", PUBLIC_KEY)


def studies(config: PhantomConfig) -> Iterator[Study]:
    """The studies of a cohort, in order of the patient's number."""
    for index in range(config.patients):
        yield _study(config, index)


def truth(seed: int, index: int) -> Truth:
    """The truth of patient `index` of the cohort `seed`."""
    patient = _draw_patient(seed, index)
    areas = areas_mm2(patient.ventricle, patient.scars, patient.stack.z_mm)
    g_per_mm2 = patient.stack.slice_spacing_mm / 1000 * MYOCARDIAL_DENSITY_G_PER_ML
    mass_g = {tissue: float(area.sum() * g_per_mm2) for tissue, area in areas.items()}
    scar_g = mass_g[Tissue.SCAR] + mass_g[Tissue.MVO]
    myocardium_g = mass_g[Tissue.HEALTHY_MYOCARDIUM] + scar_g
    return Truth(myocardium_g, scar_g, mass_g[Tissue.MVO])


def _streams(seed: int, index: int) -> list[np.random.Generator]:
    """Six sources of chance, so that one part may change and leave the others."""
    spawned = np.random.SeedSequence((seed, index)).spawn(6)
    return [np.random.default_rng(sequence) for sequence in spawned]


def _has_scar(seed: int, index: int) -> bool:
    """False for one patient, drawn by chance, of every three in a row."""
    healthy = np.random.default_rng((seed, index // 3, 3)).integers(3)
    return bool(index % 3 != healthy)


def _draw_patient(seed: int, index: int) -> _Patient:
    heart, scarring, place, *_ = _streams(seed, index)
    anterior_angle = place.uniform(1.65, 3.2)
    septum_angle = math.pi + 0.45 * (anterior_angle - 2.4) + place.normal(0, 0.14)
    ill = _has_scar(seed, index)
    ventricle = draw_ventricle(heart, septum_angle, ill)
    length_mm = ventricle.cavity_length_mm
    scars = draw_scars(scarring, septum_angle, length_mm) if ill else ()
    return _Patient(ventricle, scars, draw_stack(place, ventricle, anterior_angle))


def _study(config: PhantomConfig, index: int) -> Study:
    seed = config.seed
    patient = _draw_patient(seed, index)
    pixels = _scan(patient, config.noise, *_streams(seed, index)[3:])
    key = _key(seed, index)
    return Study(
        patient_key=key,
        study_key=key,
        source=SOURCE,
        pixels=pixels,
        label_map=label_map(patient.ventricle, patient.scars, patient.stack),
        labelled=(frozenset(TASKS),) * len(pixels),
        affine=patient.stack.affine,
    )


def _scan(
    patient: _Patient,
    noise_factor: float,
    tissue: np.random.Generator,
    scanner: np.random.Generator,
    noise: np.random.Generator,
) -> np.ndarray:
    """The images (S, H, W) of a patient."""
    ventricle, stack = patient.ventricle, patient.stack
    contrast = draw_contrast(scanner)
    torso = body.draw_torso(tissue, ventricle)
    shape = (len(stack.z_mm), *stack.shape)
    fine, coarse = body.textures(tissue, shape)
    image = np.zeros(shape, np.float32)
    canvas = Canvas(image, stack.pixel_mm, contrast.signal, fine, coarse)
    paint_surroundings(canvas, torso, ventricle, stack)
    trabeculae = 0.7 * (fine + coarse)
    signal = contrast.signal
    paint_ventricle(image, ventricle, patient.scars, stack, signal, trabeculae)
    image *= body.unevenness(tissue, body.textures(tissue, shape)[0])
    depth_mm, along_mm = scanner.uniform(100, 200), scanner.normal(0, 40)
    image *= body.coil_sensitivity(torso, stack, depth_mm, along_mm)
    scan = draw_scan(scanner, stack.shape, contrast.is_psir)
    scan = dataclasses.replace(scan, noise=noise_factor * scan.noise)
    return acquire(noise, image / signal["blood"], scan, contrast.is_psir)
