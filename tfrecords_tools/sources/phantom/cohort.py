"""The cohort: which patient has what, and the study that a scanner would deliver."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import TASKS, Tissue
from tfrecords_tools.pseudonyms import PUBLIC_KEY, pseudonym
from tfrecords_tools.sources.phantom import acquisition, anatomy, scars, torso, wall
from tfrecords_tools.sources.phantom import signal as contrast
from tfrecords_tools.sources.phantom import stack as stacks
from tfrecords_tools.study import Study

SOURCE = "phantom"

DENSITY_G_PER_ML = 1.05
"""Density of myocardium, as CMR mass reporting has it."""


@dataclasses.dataclass(frozen=True)
class PhantomConfig:
    """A synthetic cohort.

    Args:
        patients: how many; a cohort of 60 begins with the cohort of 10.
        seed: which cohort; patient i depends on (seed, i) and nothing else.
    """

    patients: int = 60
    seed: int = 0

    def __post_init__(self):
        for name, least in (("patients", 1), ("seed", 0)):
            value = getattr(self, name)
            if value < least:
                raise RefusedError(name, "CONFIG", f"expected {least} or more, got {value}")


@dataclasses.dataclass(frozen=True)
class Truth:
    mass_g: float
    scar_g: float
    mvo_g: float

    @property
    def burden_percent(self) -> float:
        return 100 * self.scar_g / self.mass_g


@dataclasses.dataclass(frozen=True, eq=False)
class Patient:
    ventricle: anatomy.Ventricle
    scars: tuple[scars.Scar, ...]
    stack: stacks.Stack


def _streams(seed, index):
    return [np.random.default_rng(s) for s in np.random.SeedSequence((seed, index)).spawn(6)]


def has_scar(seed: int, index: int) -> bool:
    third = np.random.default_rng((seed, index // 3, 3)).integers(3)
    return index % 3 != third


def patient(seed, index):
    heart, scar, place = _streams(seed, index)[:3]
    angle = place.uniform(1.65, 3.2)
    septum = np.pi + 0.45 * (angle - 2.4) + place.normal(0, 0.14)
    ventricle = anatomy.draw_ventricle(heart, septum, has_scar(seed, index))
    found = ()
    if has_scar(seed, index):
        found = scars.draw_scars(scar, septum, ventricle.cavity_length_mm)
    return Patient(ventricle, found, stacks.draw_stack(place, ventricle, angle))


def study(seed, index):
    who = patient(seed, index)
    body_r, scan_r, noise_r = _streams(seed, index)[3:]
    con = contrast.draw_contrast(scan_r)
    body = torso.draw_torso(body_r, who.ventricle)
    sig = torso.paint_torso(body_r, body, who.ventricle, who.stack, con.signal)
    fine, coarse = torso.textures(body_r, sig.shape)
    trab = 0.7*fine+0.7*coarse
    value, cover, (r, c) = wall.signal_layer(who.ventricle, who.scars, trab, who.stack, con.signal, wall.Sampling())
    sig[:, r, c] += cover * (value - sig[:, r, c])
    sig *= torso.unevenness(body_r, sig.shape)
    sens = torso.coil_sensitivity(body, who.stack, scan_r.uniform(50, 110), scan_r.normal(0, 40))
    scan = acquisition.draw_scan(scan_r, who.stack.shape, con.is_psir)
    px = acquisition.acquire(noise_r, sig * sens / con.signal["blood"], scan, con.is_psir)
    lab = wall.label_map(who.ventricle, who.scars, who.stack)
    key = pseudonym(f"phantom-{seed}-{index}", PUBLIC_KEY)
    return Study(key, key, SOURCE, px, lab, (frozenset(TASKS),) * len(px), who.stack.affine)


def studies(config: PhantomConfig) -> Iterator[Study]:
    for index in range(config.patients):
        yield study(config.seed, index)


def truth(seed: int, index: int) -> Truth:
    who = patient(seed, index)
    a = {k: v.sum() * who.stack.slice_spacing_mm / 1000 * DENSITY_G_PER_ML for k, v in wall.areas_mm2(who.ventricle, who.scars, who.stack.z_mm).items()}
    return Truth(sum(a.values()), a[Tissue.SCAR] + a[Tissue.MVO], a[Tissue.MVO])
