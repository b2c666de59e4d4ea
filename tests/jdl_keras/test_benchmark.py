import json

import pytest

from jdl_keras.benchmark import main
from tfrecords_tools.errors import REFUSED


@pytest.mark.slow
def test_networks_and_pipeline_are_measured(cohort_records, tmp_path, capsys):
    out = tmp_path / "speed.json"
    options = ["--method", "direct", "--batch_size", "2", "--seconds", "0.1"]
    records = ["--records", str(cohort_records)]
    code = main(["--presets", "tiny", *options, *records, "--json", str(out)])
    assert code == 0
    found = json.loads(out.read_text())
    assert found["backend"] == "tensorflow"
    forward, step, *pipeline = found["rows"]
    assert [row["what"] for row in pipeline] == [
        "read and parse",
        "resample and augment",
        "resample and augment",
    ]
    assert all(row["seconds_per_slice"] > 0 for row in found["rows"])
    assert all(row["peak_percent"] is None for row in pipeline)
    # A step is counted as three forward passes.
    flop = [r["gflop_per_second"] * r["seconds_per_slice"] for r in (forward, step)]
    assert flop[1] == pytest.approx(3 * flop[0])
    for row in (forward, step):
        share = 100 * row["gflop_per_second"] / row["peak_gflop_per_second"]
        assert row["peak_percent"] == pytest.approx(share)
        assert 0 < share < 110  # no network is faster than products, but for noise
    printed = " ".join(capsys.readouterr().out.split())
    assert "train step tiny direct 32x32 2" in printed


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--presets", "huge"], "presets"),
        (["--batch_size", "-1"], "batch_size"),
        (["--model", "nowhere"], "nowhere"),
        (["--records", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(options, named, capsys):
    assert main(options) == REFUSED
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
