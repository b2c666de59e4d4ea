"""Names of series, as vendors and hospitals write them, and what they hint at."""

import pytest

from tfrecords_tools.dicom.marks import (
    Contrast,
    Mark,
    contrast_of,
    marks_of_codes,
    marks_of_text,
)

NAMES = {
    "DE_high-res_PSIR_sa": {Mark.LGE, Mark.PSIR},
    "tfl_psir_single_sl_MAG": {Mark.LGE, Mark.PSIR, Mark.MAGNITUDE},
    "T1 IR LGE (SA)": {Mark.LGE},
    "2D MDE FGRE SA": {Mark.LGE},
    "SA Late Enhancement": {Mark.LGE},
    "realce tardio eje corto": {Mark.LGE},
    "cine_trufi_retro": {Mark.CINE},
    "cine de eje corto": {Mark.CINE, Mark.LGE},
    "TI_scout": {Mark.SCOUT},
    "Look Locker": {Mark.SCOUT},
    "AAHeart_Scout": {Mark.SCOUT},
    "T1Map_LongT1_MOLLI": {Mark.MAP},
    "Perfusion_rest": {Mark.PERFUSION},
    "4DFlow": {Mark.FLOW},
    "lateral wall": set(),
    "T2_haste": set(),
    "": set(),
}


@pytest.mark.parametrize("name", NAMES)
def test_marks_in_names(name):
    assert marks_of_text(name) == NAMES[name]


def test_codes_are_compared_as_a_whole():
    assert marks_of_codes(["ORIGINAL", "PRIMARY", "M", "ND"]) == {Mark.MAGNITUDE}
    assert marks_of_codes(["PRIMARY", "M_IR"]) == {Mark.MAGNITUDE}
    assert marks_of_codes(["DERIVED", "T1 MAP"]) == {Mark.MAP}
    assert marks_of_codes(["ORIGINAL", "PRIMARY", "MIXED"]) == set()


P, M, R, PH = Mark.PSIR, Mark.MAGNITUDE, Mark.REAL, Mark.PHASE

CONTRASTS = [
    # series description, code strings, protocol, values below zero
    ({P, M}, {M}, {P}, False, Contrast.MAGNITUDE),  # Siemens, PSIR_SA_MAG
    ({P}, {M}, {P}, False, Contrast.PSIR),  # Siemens, PSIR_SA_PSIR
    (set(), {R}, set(), False, Contrast.PSIR),  # Philips, one series of three
    (set(), {M}, set(), False, Contrast.MAGNITUDE),
    (set(), {PH}, set(), True, Contrast.PHASE),
    (set(), set(), set(), True, Contrast.PSIR),  # signed values
    (set(), {M}, {P}, False, Contrast.MAGNITUDE),  # only the protocol says PSIR
    (set(), set(), {P}, False, Contrast.PSIR),
    (set(), set(), set(), False, Contrast.MAGNITUDE),
]


@pytest.mark.parametrize(
    ("series", "codes", "protocol", "below_zero", "expected"), CONTRASTS
)
def test_psir_and_magnitude(series, codes, protocol, below_zero, expected):
    assert contrast_of(series, codes, protocol, below_zero) is expected
