"""TF_CONFIG says who trains together; what it must not say is refused in one line."""

import json

import pytest

from jdl_keras import train
from jdl_keras.cluster import ALONE, VARIABLE, Cluster, cluster_of, parse_cluster
from tfrecords_tools.errors import REFUSED, RefusedError

TWO = {"worker": ["a:1", "b:2"]}


def text(cluster, kind="worker", index=0):
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (text(TWO), Cluster(("a:1", "b:2"), 0)),
        (text(TWO, index=1), Cluster(("a:1", "b:2"), 1)),
        (text(TWO, index="1"), Cluster(("a:1", "b:2"), 1)),
        # The chief comes first, wherever it stands.
        (text({**TWO, "chief": ["c:3"]}, "chief"), Cluster(("c:3", "a:1", "b:2"), 0)),
        (text({**TWO, "chief": ["c:3"]}, index=1), Cluster(("c:3", "a:1", "b:2"), 2)),
        (text({"worker": ["[fe80::1]:22"]}), Cluster(("[fe80::1]:22",), 0)),
        (text({}), ALONE),
        ("{}", ALONE),
    ],
)
def test_workers_are_read(given, expected):
    assert parse_cluster(given) == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{", "a JSON object"),
        ("[1]", "a JSON object"),
        ("[" * 100000, "a JSON object"),
        (text([]), None),
        (text(["a:1"]), "a table of chief and worker"),
        (text({**TWO, "ps": ["c:3"]}), "chief and worker only"),
        (text({"worker": "a:1"}), "cluster.worker to be a list of host:port"),
        (text({"worker": ["a:1", "b"]}), "host:port"),
        (text({"worker": ["a:1", "b:0"]}), "host:port"),
        (text({"worker": ["a:1", "b:99999"]}), "host:port"),
        (text({"worker": ["a:1", "a:1"]}), "every address once"),
        (text({**TWO, "chief": ["c:1", "d:1"]}), "one chief"),
        (json.dumps({"cluster": TWO}), "task with type and index"),
        (text(TWO, "chief"), "task.type to be one of ['worker']"),
        (text(TWO, index=2), "from 0 to 1"),
        (text(TWO, index=-1), "from 0 to 1"),
        (text(TWO, index=None), "from 0 to 1"),
        (text(TWO, index=True), "from 0 to 1"),
    ],
)
def test_what_names_no_workers_is_refused(given, words, monkeypatch, tmp_path, capsys):
    if words is None:  # an empty list of jobs is no cluster
        assert parse_cluster(given) == ALONE
        return
    with pytest.raises(RefusedError) as error:
        parse_cluster(given)
    assert words in error.value.reason
    monkeypatch.setenv(VARIABLE, given)
    assert train.main(["--records", "r", "--run_dir", str(tmp_path / "r")]) == REFUSED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ERROR TF_CONFIG: CONFIG: expected ")
    assert len(line) < 500
    assert not (tmp_path / "r").exists()


def test_strategy_says_whether_it_counts(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert cluster_of("auto") is ALONE
    with pytest.raises(RefusedError, match="training.strategy: .*TF_CONFIG is not set"):
        cluster_of("multi_worker")
    monkeypatch.setenv(VARIABLE, text(TWO, index=1))
    for strategy in ("auto", "multi_worker"):
        assert cluster_of(strategy) == Cluster(("a:1", "b:2"), 1)
    for strategy in ("single", "mirrored"):
        assert cluster_of(strategy) is ALONE


def test_one_worker_is_alone(monkeypatch):
    # As launchers write it for one machine.
    cluster = parse_cluster(text({"worker": ["a:1"]}))
    assert not cluster.several
    assert cluster.is_chief


def test_several_workers_make_no_phantom(monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, text(TWO))
    assert train.main([]) == REFUSED
    assert "ERROR records: CONFIG: several workers" in capsys.readouterr().err
