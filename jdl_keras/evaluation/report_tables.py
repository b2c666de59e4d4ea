"""The tables of the report as text: what the JSON says, rounded, nothing computed."""

import dataclasses
from collections.abc import Mapping, Sequence

NONE = "–"
"""Stands for a value that is undefined."""

Cell = Sequence[str]
"""Lines of a cell; the first is the value, the others are small."""


@dataclasses.dataclass(frozen=True)
class ReportTable:
    """A table of the report: heading, columns, rows of cells, and a caption."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


_MAIN_COLUMNS: tuple[tuple[str, str, str, int], ...] = (
    ("scar Dice", "scar", "dice", 3),
    ("scar precision", "scar", "precision", 3),
    ("scar recall", "scar", "recall", 3),
    ("scar HD95, mm", "scar", "hd95_mm", 1),
    ("scar volume difference, ml", "scar", "volume_difference_ml", 2),
    ("myocardium Dice", "myocardium", "dice", 3),
    ("sensitivity", "scar", "sensitivity", 3),
    ("specificity", "scar", "specificity", 3),
    ("false-positive scar, ml", "scar", "false_positive_ml", 2),
)
"""Heading, task, measure and digits."""

_TESTED = {"dice": "Dice", "precision": "precision", "recall": "recall"}
_TESTED |= {"hd95_mm": "HD95, mm"}


def main_table(comparison: Mapping) -> ReportTable:
    """One row per method: mean, spread, interval and patients of each measure."""
    rows = []
    for method, tasks in comparison["methods"].items():
        cells = [
            _description(tasks.get(task, {}).get(measure), digits)
            for _, task, measure, digits in _MAIN_COLUMNS
        ]
        cells[0] += [f"seeds ± {_number(tasks['scar']['dice']['sd_over_seeds'], 3)}"]
        counts = tasks["scar"]["detection"]
        cells[6] += [f"{counts['tp']} of {counts['tp'] + counts['fn']} found"]
        cells[7] += [f"{counts['tn']} of {counts['tn'] + counts['fp']} clear"]
        rows.append([[method], *cells])
    columns = ["method", *(heading for heading, *_ in _MAIN_COLUMNS)]
    return ReportTable("Results", columns, rows, _MAIN_CAPTION)


def paired_table(comparison: Mapping) -> ReportTable:
    """One row per measure and baseline."""
    candidate = comparison["candidate"]
    rows = [
        [[f"scar {_TESTED[measure]}"], [f"{candidate} − {baseline}"], *_test(test)]
        for measure, tests in comparison["paired_tests"].items()
        for baseline, test in tests.items()
    ]
    columns = ["measure", "methods", "mean difference", "95 % interval", "pairs"]
    columns += ["equal", "left out", "Wilcoxon p", "Holm p", "rank-biserial"]
    return ReportTable("Paired tests", columns, rows, _PAIRED_CAPTION)


def crop_table(comparison: Mapping) -> ReportTable:
    """One row per method: how its crops sat, and the gap to an oracle crop."""
    rows = [
        [
            [method],
            [_number(None if crop["inside"] is None else 100 * crop["inside"], 1)],
            [_number(crop["error_mm"], 1)],
            [_number(crop["dice"], 3)],
            [_number(crop["oracle_dice"], 3)],
        ]
        for method, crop in comparison["crops"].items()
    ]
    return ReportTable(
        "Automatic crop against an oracle crop",
        (
            "method",
            "slices whose myocardium is inside, %",
            "median error, mm",
            "scar Dice",
            "scar Dice, oracle crop",
        ),
        rows,
        "Means over runs. The localiser finds the crop's centre; an oracle crop is "
        "centred on the reference, which no user has.",
    )


def cost_table(comparison: Mapping) -> ReportTable:
    """What each method cost."""
    rows = [
        [
            [method],
            [str(cost["runs"])],
            [_duration(cost["seconds_per_run"])],
            [_duration(cost["seconds"])],
            [NONE if cost["parameters"] is None else f"{cost['parameters']:,}"],
        ]
        for method, cost in comparison["costs"].items()
    ]
    columns = ["method", "runs", "time per run", "time in all", "parameters"]
    return ReportTable("What each method cost", columns, rows, _COST_CAPTION)


def headline(comparison: Mapping) -> list[str]:
    """The question of the comparison, answered in one line per baseline."""
    lines = []
    for baseline, test in comparison["paired_tests"]["dice"].items():
        difference = test["difference"]
        lines.append(
            f"{comparison['candidate']} against {baseline}: scar Dice "
            f"{_number(difference['mean'], 3, '+')} "
            f"(95 % interval {_interval(difference['ci95'], 3, '+')}), "
            f"corrected p {_p_value(test['holm_p'])}, "
            f"{difference['patients']} patients"
        )
    return lines


def _description(values: Mapping | None, digits: int) -> list[str]:
    if values is None or values["mean"] is None:
        return [NONE]
    count = f"n = {values['patients']}"
    if values["undefined"]:
        count += f", {values['undefined']} undefined"
    return [
        f"{_number(values['mean'], digits)} ± {_number(values['sd'], digits)}",
        _interval(values["ci95"], digits),
        count,
    ]


def _test(test: Mapping) -> list[Cell]:
    difference = test["difference"]
    return [
        [_number(difference["mean"], 3, "+")],
        [_interval(difference["ci95"], 3, "+")],
        [str(difference["patients"])],
        [str(test["zero_differences"])],
        [str(test["left_out"])],
        [_p_value(test["wilcoxon_p"])],
        [_p_value(test["holm_p"])],
        [_number(test["rank_biserial"], 2, "+")],
    ]


def _number(value: float | None, digits: int, sign: str = "-") -> str:
    return NONE if value is None else f"{value:{sign}.{digits}f}".replace("-", "−")


def _interval(bounds: Sequence[float | None], digits: int, sign: str = "-") -> str:
    return " to ".join(_number(bound, digits, sign) for bound in bounds)


def _p_value(p: float | None) -> str:
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return NONE
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


_MAIN_CAPTION = (
    "Mean ± sd over patients, 95 % interval of the mean, patients. Dice, precision, "
    "recall, HD95, volume difference (prediction − reference) and sensitivity are over "
    "patients whose reference has scar; specificity and false-positive volume over "
    "those without. The counts beneath sensitivity and specificity are patients × "
    "seeds; undefined values are counted in patients × seeds too. “seeds ±” is the sd "
    "of the seeds' means. An interval of no width means that all patients agree, not "
    "that the value is certain."
)
_PAIRED_CAPTION = (
    "Two-sided Wilcoxon signed-rank tests over patients with scar, seeds averaged. "
    "Dice is the question; the other measures are secondary. Rank-biserial: +1 if the "
    "first method has the larger value in every patient. For HD95 smaller is better."
)
_COST_CAPTION = "Wall-clock time of training, on the machine named in the conditions."
