"""From signal to the scanner's image: coil, k-space, ghosts, noise, grey values."""

import dataclasses

import numpy as np
import scipy.fft

AXES = (1, 2)
"""Rows and columns of (S, H, W): each slice is a k-space of its own."""

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Scan:
    """How one study was acquired.

    Args:
        acquired: share of k-space acquired along (rows, columns); the rest is zeros.
        phase_axis: axis of (S, H, W) along which the phase was encoded.
        noise: deviation of the noise, in units of the blood signal.
        ghost: depth of the modulation by breathing, 0 for a good breath-hold.
        ghost_period: lines of k-space in one breath.
        filtered: strength of the scanner's smoothing of k-space.
        gain: grey value of the blood signal.
        offset: grey value of no signal; PSIR images often have one.
        blank: (top, bottom, left, right) shares of the field left without data.
    """

    acquired: tuple[float, float]
    phase_axis: int
    noise: float
    ghost: float
    ghost_period: float
    filtered: float
    gain: float
    offset: float
    blank: tuple[float, float, float, float]


def draw_scan(
    random: np.random.Generator, shape: tuple[int, int], is_psir: bool
) -> Scan:
    """Draws a scan of a field of `shape`; the short side is phase encoded."""
    phase_axis = 1 if shape[0] < shape[1] else 2
    phase, read = random.uniform(0.55, 0.80), random.uniform(0.75, 1.0)
    blank = random.uniform(0, 0.12, 4) * (random.random(4) < 0.5)
    return Scan(
        acquired=(phase, read) if phase_axis == 1 else (read, phase),
        phase_axis=phase_axis,
        noise=float(np.exp(random.uniform(np.log(0.025), np.log(0.09)))),
        ghost=random.uniform(0.04, 0.14) if random.random() < 0.35 else 0.0,
        ghost_period=random.uniform(2.5, 9.0),
        filtered=random.uniform(0.2, 1.0),
        gain=random.uniform(150.0, 450.0),
        offset=float(random.choice([0.0, 2048.0])) if is_psir else 0.0,
        blank=tuple(blank) if random.random() < 0.4 else (0.0, 0.0, 0.0, 0.0),
    )


def acquire(
    random: np.random.Generator, signal: np.ndarray, scan: Scan, is_psir: bool
) -> np.ndarray:
    """The images (S, H, W) float32 of whole grey values.

    Args:
        random: source of the noise.
        signal: (S, H, W) signed, coil included, 1 where blood would be.
        scan: the acquisition.
        is_psir: keep the sign (real part), or take the magnitude (Rician noise).
    """
    spectrum = scipy.fft.fft2(signal.astype(np.complex64), axes=AXES)
    spectrum *= _ghost_modulation(random, signal.shape, scan)
    spectrum *= _window(signal.shape, scan)
    image = scipy.fft.ifft2(spectrum, axes=AXES) + _noise(random, signal.shape, scan)
    seen = image.real if is_psir else np.abs(image)
    grey = np.rint(seen * scan.gain + scan.offset)
    lowest = 0.0 if scan.offset or not is_psir else -4096.0
    grey = np.clip(grey, lowest, 4095.0).astype(np.float32)
    return _blank(grey, scan)


def _frequencies(shape: Shape, axis: int) -> np.ndarray:
    """Frequencies along `axis` as shares of the Nyquist frequency, in FFT order."""
    places = [1, 1, 1]
    places[axis] = -1
    return (2 * np.fft.fftfreq(shape[axis])).astype(np.float32).reshape(places)


def _window(shape: Shape, scan: Scan) -> np.ndarray:
    """Acquired part of k-space, with the scanner's filter towards its edge."""
    window = np.ones((1, 1, 1), np.float32)
    for axis, share in zip(AXES, scan.acquired, strict=True):
        frequency = np.abs(_frequencies(shape, axis)) / share
        roll_off = 1 - scan.filtered * np.sin(np.minimum(frequency, 1) * np.pi / 2) ** 2
        window = window * roll_off * (frequency <= 1)
    return window


def _noise(random: np.random.Generator, shape: Shape, scan: Scan) -> np.ndarray:
    """Complex noise in the image, white over the acquired part of k-space."""
    parts = random.standard_normal((2, *shape), dtype=np.float32)
    spectrum = scipy.fft.fft2(parts[0] + 1j * parts[1], axes=AXES, overwrite_x=True)
    window = _window(shape, scan)
    noise = scipy.fft.ifft2(spectrum * window, axes=AXES, overwrite_x=True)
    return noise * (scan.noise / np.sqrt(np.mean(window**2)))


def _ghost_modulation(
    random: np.random.Generator, shape: Shape, scan: Scan
) -> np.ndarray:
    """Breathing between the lines, of each slice's own: (S, H, 1) or (S, 1, W)."""
    lines = np.arange(shape[scan.phase_axis])
    places = [1, 1, 1]
    places[scan.phase_axis] = -1
    depth = scan.ghost * random.uniform(0, 1, (shape[0], 1, 1))
    start = random.uniform(0, 2 * np.pi, (shape[0], 1, 1))
    breath = 2 * np.pi * lines.reshape(places) / scan.ghost_period
    moved = np.exp(1j * np.sin(breath + start))
    return (1 - depth + depth * moved).astype(np.complex64)


def _blank(grey: np.ndarray, scan: Scan) -> np.ndarray:
    """Borders without data are 0, also where no signal is not."""
    rows, columns = grey.shape[1:]
    top, bottom, left, right = scan.blank
    grey[:, : int(top * rows)] = 0
    grey[:, rows - int(bottom * rows) :] = 0
    grey[:, :, : int(left * columns)] = 0
    grey[:, :, columns - int(right * columns) :] = 0
    return grey
