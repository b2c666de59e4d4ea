import base64
import dataclasses
import hashlib
import html
import io
import re
import stat

import numpy as np
import pytest
from pypdf import PdfReader

from jdl_keras.evaluation.html import png
from jdl_keras.inference import report, report_content, report_figures
from jdl_keras.inference.report import write_report
from jdl_keras.inference.report_numbers import amount, bounds, intensity, plain
from jdl_keras.inference.study_prediction import (
    Concern,
    Interval,
    Provenance,
    StudyPrediction,
    Verdict,
)
from jdl_keras.quantification.measurement import measure
from tfrecords_tools.labels import TASKS
from tfrecords_tools.study import Study

pytestmark = pytest.mark.slow

HOSTILE = "<script>alert('x')</script><font size=90>&amp;"
WEIGHTS, RECORDS = "ab" * 32, "cd" * 32
MADE_BY = Provenance("0.1.0", "jdl", "small", (WEIGHTS,), (RECORDS,))
INTERVAL = Interval(8.6, 19.2, 90.0, "rotations")
REVIEW = Verdict(
    (
        Concern("RING", "The ring is broken.", (3,)),
        Concern("OUTSIDE", "Scar lies outside.", (1, 3)),
    )
)
INSERTION_MM = np.array([[-20.0, -20.0, 0.0]])


def predicted(slices=4, key="study-01", scar=True):
    """A round wall from 15 to 25 mm; scar in the endocardial half of a quarter."""
    y, x = np.indices((64, 64)) - 31.5
    radius, slab = np.hypot(x, y), np.ones((slices, 1, 1), bool)
    wall = slab & (radius >= 15) & (radius < 25)
    scarred = wall & (radius < 20) & (x > 0) & (y > 0) & scar
    pixels = np.random.default_rng(0).normal(100, 5, wall.shape) + 300 * scarred
    study = Study(
        patient_key="patient-01",
        study_key=key,
        source="handmade",
        pixels=pixels.astype(np.float32),
        label_map=np.zeros(wall.shape, np.uint8),
        labelled=(frozenset(TASKS),) * slices,
        affine=np.array(
            [[0, 1, 0, -31.5], [1, 0, 0, -31.5], [0, 0, 8, 0], [0] * 3 + [1]]
        )
        * 1.0,
    )
    masks = {"myocardium": wall, "scar": scarred}
    maps = {task: mask.astype(np.float32) for task, mask in masks.items()}
    return StudyPrediction(study, maps, masks, [masks])


def measured(prediction, **options):
    return measure(prediction.wall, prediction.study.pixels, **options)


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Writes a report; gives the page, its text, and the printed file's reader."""

    def write(
        prediction=None,
        interval=INTERVAL,
        verdict=REVIEW,
        provenance=MADE_BY,
        identifiers=None,
        **options,
    ):
        folder = tmp_path_factory.mktemp("report")
        prediction = prediction or predicted()
        found = measured(prediction, **options)
        write_report(
            folder, prediction, found, interval, verdict, provenance, identifiers
        )
        page = (folder / "report.html").read_text()
        return page, words_of(page), PdfReader(folder / "report.pdf")

    return write


def words_of(page):
    body = page[page.index("<body>") :]
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", body)).split())


def printed_words(reader):
    (page,) = reader.pages
    return " ".join(page.extract_text().split())


def lowest_points(reader):
    """Height over the lower edge of the lowest line, in points."""
    heights = []

    def visit(text, outer, inner, *_):
        if text.strip():
            heights.append(inner[5] * outer[3] + outer[5])

    reader.pages[0].extract_text(visitor_text=visit)
    return min(heights)


@pytest.fixture(scope="module")
def review(write):
    return write()


# Numbers


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [
        (0, 0, "0 %"),
        (0.49, 0, "< 1 %"),
        (0.5, 0, "1 %"),
        (2.5, 0, "3 %"),
        (14.26, 1, "14.3 %"),
        (0.04, 1, "< 0.1 %"),
        (None, 0, "–"),
    ],
)
def test_amounts(value, places, text):
    assert amount(value, "%", places) == text


@pytest.mark.parametrize(
    ("low", "high", "coverage", "text"),
    [
        (8.6, 19.2, 90.0, "8 to 20 %"),
        (14.23, 15.01, 90.0, "14.2 to 15.1 %"),
        (14.0, 15.000000001, 90.0, "14.0 to 15.0 %"),
        # A narrow spread earns no decimal.
        (14.23, 15.01, None, "14 to 16 %"),
    ],
)
def test_bounds_are_rounded_outward(low, high, coverage, text):
    assert bounds(Interval(low, high, coverage, "")) == text


def test_intensities_keep_what_is_before_the_point():
    assert [intensity(v) for v in (2254.3, 99.94, 1.357, -120.6)] == [
        *("2254", "99.9", "1.36", "-121")
    ]


def test_text_from_outside_is_one_short_line():
    assert plain("a\x1b[2J\n\tb\u202ec", 9) == "a [2J b c"
    assert plain("x" * 30, 10) == "x" * 9 + "…"


def content_of(prediction, interval=INTERVAL, **options):
    found = measured(prediction, **options)
    return report_content.report_content(prediction, found, interval, REVIEW, MADE_BY)


def test_numbers_are_those_of_the_masks():
    prediction = predicted()
    content = content_of(prediction)
    wall, scar = (np.count_nonzero(m) for m in prediction.masks.values())
    # A voxel is 1 x 1 x 8 mm: 0.008 ml.
    assert content.burden == f"{100 * scar / wall:.0f} %"
    wall_mass, scar_mass, *_ = content.numbers
    assert wall_mass.value == f"{wall * 0.008 * 1.05:.0f} g"
    assert wall_mass.note.startswith(f"{wall * 0.008:.0f} ml")
    # 19.2 - 8.6 % of 42 g of wall is 4.5 g: no decimal
    assert scar_mass.value == f"{scar * 0.008 * 1.05:.0f} g"


def test_narrow_calibrated_interval_gives_a_decimal():
    content = content_of(predicted(), Interval(10.2, 11.4, 90.0, ""))
    assert re.fullmatch(r"\d+\.\d %", content.burden)
    assert re.fullmatch(r"\d+\.\d g", content.numbers[1].value)
    assert re.fullmatch(r"\d+ g", content.numbers[0].value)
    assert "90 % interval 10.2 to 11.4 %" in content.interval


def test_spread_that_is_not_calibrated_says_so():
    content = content_of(predicted(), Interval(10.2, 11.4, None, "8 rotations"))
    assert content.interval == "10 to 12 %, NOT CALIBRATED"
    assert "8 rotations" in content.interval_note
    assert re.fullmatch(r"\d+ %", content.burden)
    assert content_of(predicted(), None).interval == "no interval"


def test_thresholds_stand_beside():
    rows = {name: rest for name, *rest in content_of(predicted()).thresholds}
    assert [*rows] == ["2SD", "3SD", "5SD", "6SD", "FWHM", "Otsu"]
    # Scar of 400 over wall of 100 +- 5 is found whole by the higher thresholds.
    own = content_of(predicted())
    assert rows["6SD"][:2] == [own.burden, own.numbers[1].value]
    assert re.fullmatch(r"≥ \d+ \(base (99.\d|100|101)\)", rows["FWHM"][2])
    healthy = {
        name: rest for name, *rest in content_of(predicted(scar=False)).thresholds
    }
    assert healthy["Otsu"] == ["–", "–", "no scar detected"]


def test_holes_of_scar_are_told_as_what_they_are():
    prediction = predicted()
    hole = prediction.masks["scar"].copy()
    hole[:, 43:46, 43:46] = False
    masks = {**prediction.masks, "scar": hole}
    prediction = dataclasses.replace(prediction, masks=masks)
    lines = [
        content_of(prediction, fill_holes=fill).numbers[2] for fill in (True, False)
    ]
    # 9 voxels of 4 slices: 36 x 0.008 ml
    assert [line.name for line in lines] == [
        *("MVO (wall enclosed by scar)", "Wall enclosed by scar")
    ]
    assert [line.value for line in lines] == ["< 1 g", "< 1 ml"]
    assert "not counted" in lines[1].note
    assert content_of(predicted()).numbers[2].value == "none"


# Page


def test_both_files_say_the_same(review):
    _, words, printed = review
    printed = printed_words(printed)
    for text in (
        *("REVIEW", "Look first at slices 3, 1.", "The ring is broken."),
        *("Scar lies outside.", "90 % interval 8 to 20 %", "Not reviewed: do not use"),
        *("study-01", "Research use only. Not for diagnosis.", WEIGHTS[:12]),
        *("jdl, small", RECORDS[:12], "segments not assessed: the anterior RV"),
        *("INCOMPLETE: the first slice", "1.05 g/ml", "For comparison: thresholds"),
        *("FWHM", "LV wall mass", "Transmurality of scar", "Scar by layer"),
    ):
        assert text in words, text
        assert text in printed, text


def test_pass_has_no_mark_of_review(write):
    _, words, printed = write(verdict=Verdict())
    for text in (words, printed_words(printed)):
        assert "PASS" in text
        assert "REVIEW" not in text
        assert "do not use" not in text


def test_print_is_one_page_a4_with_its_letters_inside(review):
    *_, printed = review
    (page,) = printed.pages
    # A4 is 210 x 297 mm, a point 25.4 / 72 mm; ReportLab rounds to 1e-4.
    size = np.array([page.mediabox.width, page.mediabox.height], float)
    assert size * 25.4 / 72 == pytest.approx([210, 297], abs=0.01)
    fonts = [f.get_object() for f in page["/Resources"]["/Font"].get_object().values()]
    drawn = [font for font in fonts if "DejaVu" in font["/BaseFont"]]
    assert drawn
    assert all("/FontFile2" in font["/FontDescriptor"] for font in drawn)
    assert WEIGHTS in printed.metadata["/Keywords"]


def test_same_input_gives_same_bytes(tmp_path):
    prediction = predicted()
    found = measured(prediction)
    for name in "ab":
        (tmp_path / name).mkdir()
        write_report(tmp_path / name, prediction, found, INTERVAL, REVIEW, MADE_BY)
    for name in ("report.html", "report.pdf"):
        one, other = (tmp_path / folder / name for folder in "ab")
        assert one.read_bytes() == other.read_bytes()
        assert stat.S_IMODE(one.stat().st_mode) == 0o600


def test_identifiers_only_where_given(write, review):
    _, words, printed = write(identifiers={"Name": "DOE^JANE"})
    assert "DOE^JANE" in words
    assert "DOE^JANE" in printed_words(printed)
    page, *_ = review
    assert "patient-01" not in page
    assert "DOE" not in review[1]


def test_hostile_text_is_inert(write):
    many = Verdict(tuple(Concern("X", HOSTILE, (0,)) for _ in range(2)))
    made_by = Provenance(HOSTILE, HOSTILE, HOSTILE, (HOSTILE,), (HOSTILE,))
    page, words, printed = write(
        predicted(key=HOSTILE),
        Interval(1, 9, None, HOSTILE),
        many,
        made_by,
        {HOSTILE: HOSTILE},
        warnings=(HOSTILE,),
    )
    for mark in (
        "<script",
        "<font",
        "http:",
        "https:",
        "javascript:",
        "<link",
        " style=",
    ):
        assert mark not in page.lower()
    # Key, name and value; method and version; two concerns, interval, warning
    assert words.count(HOSTILE) == 3 + 2 + 2 + 1 + 1
    assert HOSTILE.replace(" ", "") in printed_words(printed).replace(" ", "")


def test_policy_lets_in_the_own_style_only(review):
    page, *_ = review
    (style,) = re.findall("<style>(.*)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = re.findall('Content-Security-Policy" content="([^"]+)"', page)
    assert policy.startswith(
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'"
    )
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(images) == page.count("<img") == page.count("src=") == 1
    assert base64.b64decode(images[0], validate=True).startswith(b"\x89PNG")


def test_longest_report_is_one_page_and_tells_what_it_leaves_out(write):
    long = "word " * 100
    concerns = tuple(Concern("X", long + str(i), (i,)) for i in range(9))
    page, words, printed = write(
        predicted(slices=20, key="k" * 500),
        Interval(1, 9, None, long),
        Verdict(concerns),
        Provenance("1", "jdl", "p" * 500, tuple(f"{i:064}" for i in range(9)), ("a",)),
        {f"{i}" * 90: "v" * 500 for i in range(9)},
        warnings=tuple(long + str(i) for i in range(9)),
        insertions_mm=INSERTION_MM,
    )
    for text in (words, printed_words(printed)):
        assert "and 3 more reasons" in text
        # 9 and the two of an incomplete stack
        assert "and 5 more warnings" in text
        assert "volume x 1.05 g/ml" in text
    assert page.count("<img") == 2
    # What lies below the sheet is in the file too, but not on paper.
    assert 28 <= lowest_points(printed) < 60


def test_segments_are_drawn_where_assessed(write):
    page, words, printed = write(insertions_mm=INSERTION_MM)
    assert page.count("<img") == 2
    assert "not assessed: the" not in words + printed_words(printed)
    assert "seen from the apex" in words


def test_failed_report_leaves_the_one_before(tmp_path, monkeypatch):
    (tmp_path / "report.html").write_text("before")
    (tmp_path / "report.pdf").write_text("before")
    monkeypatch.setattr(report, "pdf", lambda *_: 1 / 0)
    prediction = predicted()
    with pytest.raises(ZeroDivisionError):
        write_report(tmp_path, prediction, measured(prediction), None, REVIEW, MADE_BY)
    assert {p.read_text() for p in tmp_path.iterdir()} == {"before"}


# Pictures


@pytest.mark.parametrize("count", [1, 7, 10, 20])
@pytest.mark.parametrize("height_by_width", [0.7, 1.0, 1.4])
def test_pictures_fit_their_place(count, height_by_width):
    grid = report_figures.grid_of(count, height_by_width, 190, 110)
    high, wide = grid.tile_mm
    assert grid.columns * grid.rows >= count
    assert grid.columns * 2 * wide <= 190
    assert grid.height_mm <= 110 + 1e-9
    assert high / wide == pytest.approx(height_by_width)
    # 20 slices are still readable: a heart of 70 mm in 100 mm is 1 cm wide.
    assert wide >= 14.9


def figure_of(prediction, look_first=()):
    found = measured(prediction)
    return report_figures.slices_figure(
        prediction.study.pixels, found, look_first, 190, 110
    ).axes[0]


def test_each_slice_is_shown_without_and_with_contours():
    prediction = predicted()
    axes = figure_of(prediction)
    assert len(axes.images) == 2 * 4
    first, second = (image.get_array() for image in axes.images[:2])
    assert np.array_equal(first, second)
    # Radius 25 in a picture of 64: 15 mm around it is more than there is.
    assert first.shape == (64, 64)
    left, right, *_ = axes.images[0].get_extent()
    drawn = [c for c in axes.collections if c.get_paths()]
    for collection in drawn:
        for path in collection.get_paths():
            x = path.vertices[:, 0]
            columns = [i.get_extent() for i in axes.images[1::2]]
            outlines = any(a - 1e-6 <= x.min() and x.max() <= b for a, b, *_ in columns)
            assert outlines or len(x) == 2  # lines of the hatching are clipped
    assert drawn


def test_wall_is_solid_and_scar_broken_and_hatched():
    axes = figure_of(predicted(slices=1))
    wall, _, hatching, scar = axes.collections
    assert wall.get_linestyle()[0][1] is None
    assert scar.get_linestyle()[0][1] is not None
    assert hatching.get_clip_path() is not None
    only_wall = figure_of(predicted(slices=1, scar=False)).collections
    assert len(only_wall) == 1


def test_slices_to_look_at_are_marked_without_colour():
    axes = figure_of(predicted(), look_first=(2,))
    titles = [text.get_text() for text in axes.texts]
    assert [title.startswith("LOOK") for title in titles] == [False, False, True, False]
    assert titles[0].startswith("0 base: scar ")
    assert "3 apex" in titles[3]
    assert len(axes.patches) == 2


def test_fat_does_not_set_the_grey_window():
    prediction = predicted(slices=1)
    image = prediction.study.pixels[0].copy()
    wall = prediction.masks["myocardium"][0]
    window = report_figures.grey_window(image, wall)
    image[:, :5] = 10_000
    assert np.array_equal(window, report_figures.grey_window(image, wall))
    # Wall of 100 +- 5, scar of 400.
    assert 80 < window[0] < 95
    assert 395 < window[1] < 420
    assert report_figures.grey_window(image, np.zeros_like(wall))[1] == 10_000


def test_each_slice_has_its_own_grey_window():
    prediction = predicted(slices=2)
    prediction.study.pixels[1] *= 10
    dark, bright = (image.get_clim()[1] for image in figure_of(prediction).images[::2])
    assert 9 < bright / dark < 11


def test_pictures_name_no_address():
    figure = report_figures.bullseyes_figure([])
    content = png(figure, report_figures.RESOLUTION_DPI)
    assert b"http" not in content
    assert io.BytesIO(content).read(4) == b"\x89PNG"
