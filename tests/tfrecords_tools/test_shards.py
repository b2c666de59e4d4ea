"""Shards are whole or absent, and damage inside one is found."""

import pytest

from tfrecords_tools import files, shards
from tfrecords_tools.errors import RefusedError

RECORDS = [b"one", b"", b"three" * 100]


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / shards.shard_name("test", 0, 4)
    assert shards.write_records(path, RECORDS) == 3
    return path


def test_name_is_the_contract():
    assert shards.shard_name("train", 3, 12) == "train-00003-of-00012.tfrecord"
    assert shards.SHARD_NAME.fullmatch("train-00003-of-00012.tfrecord")
    assert not shards.SHARD_NAME.fullmatch("../train-00003-of-00012.tfrecord")


def test_write_then_read(shard):
    assert list(shards.read_records(shard)) == RECORDS
    assert shards.count_records(shard) == 3


def test_framing_is_16_bytes_a_record(shard):
    # 8 length + 4 CRC + 4 CRC = 16; 3 x 16 + 3 + 0 + 500 = 551
    assert shard.stat().st_size == 551


@pytest.mark.parametrize("cut", [1, 12, 18, 36, 550])
def test_cut_inside_a_record(shard, cut):
    # Records end at 19 = 16 + 3, at 35 = 19 + 16, at 551 = 35 + 516.
    shard.write_bytes(shard.read_bytes()[:cut])
    with pytest.raises(RefusedError, match="TRUNCATED"):
        shards.count_records(shard)


def test_cut_between_records_only_lowers_the_count(shard):
    shard.write_bytes(shard.read_bytes()[:35])
    assert shards.count_records(shard) == 2


def test_flipped_bit_is_found_when_read(shard):
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(RefusedError, match="CORRUPT"):
        list(shards.read_records(shard))


def test_failing_source_leaves_nothing(tmp_path):
    def failing():
        yield b"one"
        raise RefusedError("study", "CORRUPT", "half a study")

    with pytest.raises(RefusedError):
        shards.write_records(tmp_path / "a.tfrecord", failing())
    assert not list(tmp_path.iterdir())


def test_system_refusal_is_an_oserror(tmp_path):
    with pytest.raises(OSError, match=r"a\.tfrecord"):
        shards.write_records(tmp_path / "absent" / "a.tfrecord", RECORDS)


def test_content_is_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    events = []
    real_sync, real_replace = files.sync, files.os.replace
    monkeypatch.setattr(
        files, "sync", lambda p: (events.append(("sync", p.name)), real_sync(p))
    )
    monkeypatch.setattr(
        files.os,
        "replace",
        lambda a, b: (events.append(("to", b.name)), real_replace(a, b)),
    )
    shards.write_records(tmp_path / "a.tfrecord", RECORDS)
    assert events == [
        ("sync", ".tmp-a.tfrecord"),
        ("to", "a.tfrecord"),
        ("sync", tmp_path.name),
    ]
