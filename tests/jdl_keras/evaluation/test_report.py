import base64
import html
import io
import re

import pandas as pd
import pytest
from matplotlib.figure import Figure

from jdl_keras.evaluation.comparison import write_comparison
from jdl_keras.evaluation.report import CAPTIONS, ReportContext, write_report
from jdl_keras.evaluation.report_tables import (
    ReportTable,
    cost_table,
    headline,
    main_table,
    paired_table,
)

HOSTILE = "<script>alert('x')</script>"
COUNTS = {"patients": 7, "studies": 8, "slices": 71, "with_scar": 5}


@pytest.fixture
def context():
    return ReportContext(
        command="python -m jdl_keras.compare --seeds 2",
        source="phantom",
        totals={"train": COUNTS},
        settings={"grid.size": [96, 96]},
    )


@pytest.fixture
def result(two_methods, tmp_path):
    return write_comparison(tmp_path / "out", two_methods)


@pytest.fixture
def page(result, context, tmp_path):
    figures = {name: Figure((1, 1)) for name in CAPTIONS}
    write_report(tmp_path / "out" / "report.html", result[1], figures, context)
    return (tmp_path / "out" / "report.html").read_text()


def row_of(page, method):
    """The main table's cells of a method, each a list of lines."""
    (row,) = re.findall(f'<tr><td><span class="value">{method}</span></td>(.*)', page)[
        :1
    ]
    cells = row.split("</td>")[:-1]
    return [re.findall(r">([^<>]+)</", cell) for cell in cells]


def test_numbers_of_the_report_come_from_the_csv(page, tmp_path):
    rows = pd.read_csv(io.StringIO((tmp_path / "out" / "comparison.csv").read_text()))
    rows = rows[
        (rows.method == "jdl") & (rows.task == "scar") & (rows.tp + rows.fn > 0)
    ]
    means = rows.groupby("patient_key")["dice"].mean()
    expected = f"{means.mean():.3f} ± {means.std():.3f}"
    assert row_of(page, "jdl")[0][0] == expected == "0.483 ± 0.225"


def test_main_table_has_all_numbers_of_the_comparison(page, result):
    columns = ["dice", "precision", "recall", "hd95_mm", "volume_difference_ml", None]
    columns += ["sensitivity", "specificity", "false_positive_ml"]
    digits = [3, 3, 3, 1, 2, 3, 3, 3, 2]
    for method, tasks in result[1]["methods"].items():
        cells = row_of(page, method)
        for name, places, lines in zip(columns, digits, cells, strict=True):
            values = (
                tasks["scar"][name] if name else tasks.get("myocardium", {}).get("dice")
            )
            if values is None:
                assert lines == ["–"]
                continue
            text = [f"{values['mean']:.{places}f} ± {values['sd']:.{places}f}"]
            text += [" to ".join(f"{bound:.{places}f}" for bound in values["ci95"])]
            assert lines[:2] == [line.replace("-", "−") for line in text]
            assert lines[2].startswith(f"n = {values['patients']}")


def test_detection_and_seeds_stand_beside_the_means(page):
    jdl = row_of(page, "jdl")
    # sd of the seeds' means 0.4667 and 0.5: 0.0333 / √2
    assert jdl[0][3] == "seeds ± 0.024"
    assert jdl[1][2] == "n = 3, 1 undefined"
    assert jdl[6][3] == "5 of 6 found"
    assert jdl[7][3] == "3 of 4 clear"


def test_paired_tests_and_headline_by_hand(result):
    # Worked out in test_comparison
    (line,) = headline(result[1])
    assert line.startswith("jdl against direct: scar Dice +0.117 (95 % interval ")
    assert line.endswith("corrected p 0.500, 3 patients")
    dice = paired_table(result[1]).rows[0]
    assert [cell[0] for cell in dice[:3]] == ["scar Dice", "jdl − direct", "+0.117"]
    found = [cell[0] for cell in dice[4:]]
    assert found == ["3", "0", "0", "0.500", "0.500", "+0.67"]


@pytest.mark.parametrize(
    ("p", "text"), [(None, "–"), (0.0009, "< 0.001"), (0.001, "0.001"), (1.0, "1.000")]
)
def test_small_p_values_are_not_rounded_to_zero(result, p, text):
    test = result[1]["paired_tests"]["dice"]["direct"] | {"holm_p": p}
    changed = result[1] | {"paired_tests": {"dice": {"direct": test}}}
    assert paired_table(changed).rows[0][8] == [text]


def test_costs_are_readable():
    costs = {
        "jdl": {
            "runs": 3,
            "seconds_per_run": 75.4,
            "seconds": 3725,
            "parameters": 5018,
        },
        "direct": {"runs": 3, "seconds_per_run": None, "seconds": None}
        | {"parameters": None},
    }
    jdl, direct = cost_table({"costs": costs}).rows
    assert [cell[0] for cell in jdl] == [
        "jdl",
        "3",
        "1 min 15 s",
        "1 h 02 min",
        "5,018",
    ]
    assert [cell[0] for cell in direct] == ["direct", "3", "–", "–", "–"]


def test_conditions_are_told(page):
    for text in (
        *("synthetic", "research use only", "Research use only. Not a medical device"),
        *("7 patients, 8 studies, 71 slices, 5 with scar", "grid.size: [96, 96]"),
        *("python -m jdl_keras.compare --seeds 2", "5 patients measured, 3 with scar"),
        *("Figure 2.", "Figure 3.", "Figure 4.", "Dice undefined", "Holm"),
    ):
        assert text in page, text


def test_real_data_are_not_called_synthetic(result, context, tmp_path):
    real = ReportContext(command="x", source="emidec", totals={})
    write_report(tmp_path / "real.html", result[1], {}, real)
    assert "synthetic" not in (tmp_path / "real.html").read_text()
    assert not real.is_synthetic
    assert context.is_synthetic


def test_figures_are_in_the_file(page):
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(images) == page.count("<img") == 5
    for image in images:
        content = base64.b64decode(image, validate=True)
        assert content.startswith(b"\x89PNG")
        assert b"http" not in content


def check_inert(page):
    lower = page.lower()
    for mark in ("<script", "http:", "https:", "javascript:", "<link", "<iframe"):
        assert mark not in lower, mark
    assert set(re.findall(r'src="([a-z]+:)', lower)) <= {"data:"}
    assert "default-src 'none'" in page


def test_report_is_inert_and_closed_in_itself(page):
    check_inert(page)


def test_what_comes_with_the_data_is_escaped(write_run, tmp_path):
    runs = [
        write_run(name, 0, {HOSTILE: (5, 5, 5), "=1+1": (0, 0, 0)})
        for name in ("jdl", "direct")
    ]
    _, comparison = write_comparison(tmp_path / "out", runs)
    comparison["methods"][HOSTILE] = comparison["methods"].pop("direct")
    comparison["costs"][HOSTILE] = comparison["costs"].pop("direct")
    hostile = ReportContext(
        command=HOSTILE,
        source=HOSTILE,
        totals={HOSTILE: {HOSTILE: 1}},
        record_set_sha256=HOSTILE,
        settings={HOSTILE: HOSTILE},
        versions={HOSTILE: HOSTILE},
        tables=[ReportTable(HOSTILE, [HOSTILE], [[[HOSTILE, HOSTILE]]], HOSTILE)],
        notes=[HOSTILE],
        title=HOSTILE,
    )
    path = tmp_path / "report.html"
    write_report(path, comparison, {HOSTILE: Figure((1, 1))}, hostile)
    page = path.read_text()
    check_inert(page)
    # title, h1, source, split, count, 2 settings, 2 versions, sha256, note, command;
    # 5 of the further table, main table, costs, heading and alt of the figure
    escaped = html.escape(HOSTILE).replace("&#x27;", "&#39;")
    assert page.count(escaped) == 12 + 5 + 2 + 2


def test_a_failed_report_leaves_the_one_before(result, context, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("before")
    broken = {"candidate": "jdl"} | {
        key: result[1][key] for key in ("methods", "costs")
    }
    with pytest.raises(KeyError):
        write_report(path, broken, {}, context)
    assert path.read_text() == "before"


def test_main_table_says_what_is_undefined(result):
    table = main_table(result[1])
    assert len(table.columns) == 10
    assert all(len(row) == len(table.columns) for row in table.rows)
