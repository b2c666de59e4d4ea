"""What k-space, noise and grey values do to a known signal."""

import dataclasses
import math

import numpy as np
import pytest

from tfrecords_tools.sources.phantom.acquisition import Scan, acquire

IDEAL = Scan(
    acquired=(1.0, 1.0),
    phase_axis=1,
    noise=0.0,
    ghost=0.0,
    ghost_period=4.0,
    filtered=0.0,
    gain=1000.0,
    offset=0.0,
    blank=(0.0, 0.0, 0.0, 0.0),
)


@pytest.fixture
def random():
    return np.random.default_rng(0)


def box(columns=128):
    """Two slices, 1 on the middle half of the columns and 0 elsewhere."""
    signal = np.zeros((2, 64, columns), np.float32)
    signal[:, :, columns // 4 : 3 * columns // 4] = 1
    return signal


def test_ideal_scan_returns_the_signal_in_grey_values(random):
    assert (acquire(random, box(), IDEAL, is_psir=True) == 1000 * box()).all()


def test_magnitude_loses_the_sign_that_psir_keeps(random):
    assert (acquire(random, -box(), IDEAL, is_psir=True) == -1000 * box()).all()
    assert (acquire(random, -box(), IDEAL, is_psir=False) == 1000 * box()).all()


def test_truncated_k_space_overshoots_by_nine_percent(random):
    quarter = dataclasses.replace(IDEAL, acquired=(1.0, 0.25))
    image = acquire(random, box(), quarter, is_psir=True)
    # Gibbs: the overshoot is (2 / pi Si(pi) - 1) / 2 = 8.95 % of the step. Four pixels
    # a ripple sample its top within 1 % of the step.
    assert image.max() == pytest.approx(1089.5, abs=10)
    assert image.min() == pytest.approx(-89.5, abs=10)


def test_filtered_k_space_rings_less(random):
    ringing = dataclasses.replace(IDEAL, acquired=(1.0, 0.25))
    smooth = dataclasses.replace(ringing, filtered=1.0)
    tops = [acquire(random, box(), s, is_psir=True).max() for s in (ringing, smooth)]
    assert tops[1] < tops[0] - 50


def test_noise_is_gaussian_in_psir_and_rician_in_magnitude(random):
    noisy = dataclasses.replace(IDEAL, noise=0.1, acquired=(0.5, 1.0), filtered=0.3)
    nothing = np.zeros((8, 128, 128), np.float32)
    signed = acquire(random, nothing, noisy, is_psir=True)
    magnitude = acquire(random, nothing, noisy, is_psir=False)
    # sigma = 0.1 * 1000 grey values. Half of k-space holds 65,536 independent values:
    # 3 sigma / sqrt(65536) = 1.2 for the mean, and less for the deviations.
    assert signed.mean() == pytest.approx(0, abs=2)
    assert signed.std() == pytest.approx(100, abs=2)
    # Rayleigh: sigma sqrt(pi / 2) = 125.3.
    assert magnitude.mean() == pytest.approx(100 * math.sqrt(math.pi / 2), abs=2)
    assert magnitude.min() >= 0


def test_breathing_ghosts_along_the_phase_encoding_only(random):
    breathing = dataclasses.replace(IDEAL, ghost=0.5)
    spot = np.zeros((1, 64, 64), np.float32)
    spot[0, 30:34, 20:24] = 1
    ghosts = acquire(random, spot, breathing, is_psir=False)[0]
    # A breath of 4 lines repeats the spot every 64 / 4 = 16 rows.
    assert ghosts[14:18, 20:24].min() > 10
    assert ghosts[:, :20].max() == ghosts[:, 24:].max() == 0


def test_offset_image_has_grey_air_and_black_blank_borders(random):
    scan = dataclasses.replace(IDEAL, offset=2048.0, blank=(0.25, 0.0, 0.0, 0.5))
    image = acquire(random, np.zeros((1, 8, 8), np.float32), scan, is_psir=True)[0]
    assert (image[:2] == 0).all()
    assert (image[:, 4:] == 0).all()
    assert (image[2:, :4] == 2048).all()
