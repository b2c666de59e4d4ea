"""Small hand-made studies, and a record set of eight of them."""

import dataclasses
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import Tissue
from tfrecords_tools.sources.source import Source
from tfrecords_tools.splits import SplitFractions
from tfrecords_tools.study import Study

# The same examples every time, and none fails because the machine is busy.
settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")

HALF = SplitFractions(0.5, 0.25, 0.25)


def _make_study(number, slices=3, scar=None, patient=None, **changes):
    """Study `number`: 12 x 10 pixels of 1.5 x 1.25 mm; odd numbers have scar."""
    random = np.random.default_rng(number)
    label_map = np.zeros((slices, 12, 10), np.uint8)
    label_map[:, 3:9, 2:8] = Tissue.HEALTHY_MYOCARDIUM
    label_map[:, 4:8, 3:7] = Tissue.BLOOD_POOL
    if number % 2 if scar is None else scar:
        label_map[0, 3, 2:5] = Tissue.SCAR
    values = {
        "patient_key": patient or f"patient-{number:02}",
        "study_key": f"study-{number:02}",
        "source": "handmade",
        "pixels": random.normal(size=label_map.shape).astype(np.float32),
        "label_map": label_map,
        "labelled": (frozenset({"myocardium", "scar"}),) * slices,
        "affine": np.diag([1.5, 1.25, 8.0, 1.0]),
    }
    return Study(**(values | changes))


@pytest.fixture(scope="session")
def make_study():
    return _make_study


@dataclasses.dataclass(frozen=True)
class ReadyItem:
    """A study, or the error that reading it raises."""

    key: str
    content: str
    outcome: object = dataclasses.field(repr=False, compare=False)
    files: tuple[Path, ...] = ()
    description: str = ""


def _item(number, outcome):
    if isinstance(outcome, RefusedError):
        return ReadyItem(f"refused-{number}", str(outcome), outcome)
    arrays = (outcome.pixels, outcome.label_map, repr(outcome.labelled).encode())
    digest = hashlib.sha256(b"".join(map(bytes, arrays))).hexdigest()
    return ReadyItem(f"{outcome.study_key}-{outcome.patient_key}", digest, outcome)


def _read(item):
    if isinstance(item.outcome, Exception):
        raise item.outcome
    return item.outcome


def _source_of(outcomes, **changes):
    """A source of studies, and of errors in place of some."""
    items = [_item(number, outcome) for number, outcome in enumerate(outcomes)]
    return Source(**{"name": "handmade", "items": items, "read": _read} | changes)


@pytest.fixture(scope="session")
def source_of():
    return _source_of


@pytest.fixture(scope="session")
def build():
    """Builds the record set of eight studies, or of those given."""
    from tfrecords_tools.record_set_writer import build_record_set

    def build(out, studies=None, settings=None, **changes):
        studies = map(_make_study, range(8)) if studies is None else studies
        options = {"fractions": HALF, "shards": 2} | changes
        source = studies
        if not isinstance(studies, Source):
            source = _source_of(studies, settings=settings or {"seed": 0})
        return build_record_set(source, out, **options)

    return build


@pytest.fixture(scope="session")
def _built(tmp_path_factory, build):
    folder = tmp_path_factory.mktemp("built") / "records"
    build(folder)
    return folder


@pytest.fixture
def records(_built, tmp_path):
    """A copy of the record set: train 2 + 2, validation 1 + 1, test 1 + 1 studies."""
    return shutil.copytree(_built, tmp_path / "records")
