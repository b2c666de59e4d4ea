"""Inversion-recovery signal of the tissues that a late-enhancement scan shows.

A 180 degree pulse, a wait of TI, a read-out, repeated every TR. The longitudinal
magnetisation at the read-out is M0 * (1 - 2 exp(-TI/T1) + exp(-TR/T1)): below zero for
slow tissue, zero at the null point, and close to M0 for fast (enhanced) tissue. A PSIR
image keeps the sign; a magnitude image loses it.
"""

import dataclasses
import math

import numpy as np

POST_CONTRAST: dict[str, tuple[float, float]] = {
    "blood": (0.95, 300.0),
    "myocardium": (0.80, 420.0),
    "scar": (0.80, 275.0),
    "mvo": (0.85, 470.0),
    "fat": (1.10, 235.0),
    "muscle": (0.80, 390.0),
    "bone": (0.60, 290.0),
    "liver": (0.80, 325.0),
    "spleen": (0.90, 300.0),
    "kidney": (0.90, 285.0),
    "bowel": (0.75, 350.0),
    "gastric": (0.80, 1500.0),
    "lung": (0.22, 340.0),
}
"""(M0 as the read-out sees it, T1 in ms) about 12 minutes after gadolinium at 1.5 T.

Not measurements: plausible magnitudes, adjusted until the ratios of wall, scar, blood
and fat came near those of the EMIDEC images (Lalande et al., Data 2020, 5(4):89).
"""

T1_SPREAD = 0.05
"""Standard deviation of T1 between patients, as a share: dose, delay and clearance."""


def inversion_recovery(
    t1_ms: np.ndarray | float, inversion_time_ms: float, repetition_time_ms: float
) -> np.ndarray | float:
    """Signed signal for M0 = 1, in [-1, 1].

    Args:
        t1_ms: T1, any shape.
        inversion_time_ms: TI.
        repetition_time_ms: TR, from one inversion to the next.
    """
    recovered = np.exp(-repetition_time_ms / np.asarray(t1_ms))
    return 1 - 2 * np.exp(-inversion_time_ms / np.asarray(t1_ms)) + recovered


def null_time_ms(t1_ms: float, repetition_time_ms: float) -> float:
    """The TI at which a tissue gives no signal: T1 ln 2 if TR is endless."""
    return t1_ms * (math.log(2) - math.log1p(math.exp(-repetition_time_ms / t1_ms)))


@dataclasses.dataclass(frozen=True)
class Contrast:
    """What one scan makes of each tissue.

    Attributes:
        is_psir: whether the image keeps the sign of the signal.
        inversion_time_ms: TI, about the null of healthy myocardium.
        signal: signed signal of each tissue of `POST_CONTRAST`.
    """

    is_psir: bool
    inversion_time_ms: float
    signal: dict[str, float]


def draw_contrast(random: np.random.Generator) -> Contrast:
    """Draws a scan; a PSIR scan forgives a TI well past the null, so it gets one."""
    is_psir = bool(random.random() < 0.6)
    t1_ms = {
        name: t1 * math.exp(T1_SPREAD * random.standard_normal())
        for name, (_, t1) in POST_CONTRAST.items()
    }
    # Blood and scar share the contrast agent: scar stays a little faster than blood.
    t1_ms["scar"] = t1_ms["blood"] * random.uniform(0.70, 0.88)
    t1_ms["myocardium"] = max(t1_ms["myocardium"], 1.3 * t1_ms["blood"])
    repetition_ms = random.uniform(1400.0, 2200.0)
    null_ms = null_time_ms(t1_ms["myocardium"], repetition_ms)
    late_ms = random.uniform(10.0, 110.0) if is_psir else random.uniform(0.0, 40.0)
    signal = {
        name: m0
        * float(inversion_recovery(t1_ms[name], null_ms + late_ms, repetition_ms))
        for name, (m0, _) in POST_CONTRAST.items()
    }
    return Contrast(is_psir, null_ms + late_ms, signal)
