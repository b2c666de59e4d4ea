"""One tree of good studies, built alone and again among bad ones, by the command."""

import collections
import contextlib
import dataclasses
import io
import os
import random
import re
import time

import pytest

from tfrecords_tools import build as command
from tfrecords_tools.errors import RefusedError
from tfrecords_tools.label_checks import warnings_for
from tfrecords_tools.label_fixes import FIXES, fixed
from tfrecords_tools.manifest import load_manifest
from tfrecords_tools.pseudonyms import load_key, pseudonym
from tfrecords_tools.sources.table import SOURCES

LIMIT_SECONDS = 60.0
"""Of the processor, for one build among all bad inputs of a kind: a few are usual."""

ROUNDS = int(os.environ.get("FUZZ", "25"))
"""Damaged files of each format; FUZZ=10000 takes some minutes a format."""

MASK_OF_SHARDS = "*.tfrecord"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of the bad inputs.

    Attributes:
        refused: codes by key of the study, one for each line of standard error.
        warned: texts by key of the study.
        left_out: (what, reason) and how often.
        patients: keys of those imported.
        text: all that was printed.
    """

    key: bytes
    refused: dict
    warned: dict
    left_out: dict
    patients: frozenset
    text: str

    def codes(self, name):
        """Codes that the study of a name or UID was refused with."""
        return self.refused.get(pseudonym(name, self.key), [])

    def reasons(self, *names):
        """Why things with these names or, without any, all things were left out."""
        wanted = {pseudonym(name, self.key) for name in names}
        return [r for what, r in self.left_out if not names or what in wanted]


def run(source, folder, out, key, options):
    """Exit code, standard output and standard error of a build."""
    arguments = [source, str(folder), str(out), "--key", str(key), "--workers", "1"]
    texts = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(texts[0]), contextlib.redirect_stderr(texts[1]):
        code = command.main([*arguments, *options])
    return code, texts[0].getvalue(), texts[1].getvalue()


def by_key(lines, word):
    found = collections.defaultdict(list)
    for line in lines:
        match = re.fullmatch(rf"{word} ([0-9a-f]{{16}}): (.*)", line)
        if match:
            found[match[1]].append(match[2])
    return dict(found)


@pytest.fixture(scope="module")
def survive(tmp_path_factory):
    """Builds the studies of `good`, then those and what `bad` adds to the folder.

    The records of the good ones must be the same bytes both times, and whatever is
    printed must be an ERROR or WARNING of a pseudonym.
    """

    def survive(source, good, bad, options=(), imported=None):
        root = tmp_path_factory.mktemp(source)
        folder, key = root / "input", root / "key"
        folder.mkdir()
        key.write_text("5a" * 32)
        key.chmod(0o600)
        good(folder)
        code, printed, told = run(source, folder, root / "without", key, options)
        assert code == 0, told
        alone = printed.splitlines()[-1]
        bad(folder)
        begin = time.process_time()
        code, printed, told = run(source, folder, root / "with", key, options)
        assert time.process_time() - begin < LIMIT_SECONDS
        assert code == 2, told
        manifest = load_manifest(root / "with")
        before = load_manifest(root / "without")
        assert manifest.patients == before.patients, "a bad one was accepted"
        shards = [
            {path.name: path.read_bytes() for path in out.glob(MASK_OF_SHARDS)}
            for out in (root / "without", root / "with")
        ]
        assert shards[0] == shards[1] != {}
        lines = told.splitlines()
        refused = by_key(lines, "ERROR")
        assert printed.splitlines()[-1] == alone.replace(
            "skipped 0", f"skipped {len(manifest.skipped)}"
        )
        codes = {k: [text.split(":")[0] for text in v] for k, v in refused.items()}
        warned = by_key(lines, "WARNING")
        assert sum(map(len, [*refused.values(), *warned.values()])) == len(lines), told
        assert sorted(sum(codes.values(), [])) == sorted(
            entry.code for entry in manifest.skipped
        )
        assert (printed + told).replace("\n", "").isprintable()
        return Outcome(
            key=load_key(key),
            refused=codes,
            warned=warned,
            left_out={(e.what, e.reason): e.count for e in manifest.left_out},
            patients=frozenset(p.patient_key for p in manifest.patients),
            text=printed + told,
        )

    return survive


# Damage of no plan


def mutated(content, chance):
    """Bits flipped, bytes replaced, deleted or doubled, the end cut off."""
    data = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        at, size = chance.randrange(len(data) + 1), chance.choice([1, 2, 4, 50])
        # Heads are short, and say most.
        at = at % 400 if chance.random() < 0.3 else at
        change = chance.randrange(6)
        if change == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif change == 1:
            filler = chance.choice([b"\xff", b"\0", b"-", b"9", b"\x7f"])
            data[at : at + size] = filler * len(data[at : at + size])
        elif change == 2:
            data[at : at + size] = chance.randbytes(len(data[at : at + size]))
        elif change == 3:
            data[at:at] = data[at : at + size]
        elif change == 4:
            del data[at : at + size]
        elif chance.random() < 0.3:
            del data[at:]
    return bytes(data)


def outcomes(kind, folder, settings):
    """Codes of the studies of a folder, or `accepted`; only our errors may come."""
    command = SOURCES[kind]
    try:
        source = command.open(folder, command.config(**settings), b"key")
    except RefusedError as error:
        return [error]
    found = list(source.left_out)
    for item in source.items:
        try:
            study = fixed(source.read(item), [*FIXES])
            found += [*study.warnings, *warnings_for(study), "accepted"]
        except RefusedError as error:
            found.append(error)
    return found


@pytest.fixture
def fuzz():
    """Opens and reads the studies of a folder while one file in it is damaged."""

    def fuzz(kind, folder, path, **settings):
        content, chance = path.read_bytes(), random.Random(f"{kind} {path.name}")
        refused = 0
        for _ in range(ROUNDS):
            path.write_bytes(mutated(content, chance))
            found = outcomes(kind, folder, settings)
            texts = [str(one).replace(str(folder), "") for one in found]
            assert not [text for text in texts if "Name^" in text or "2.25." in text]
            refused += found[-1:] != ["accepted"]
        assert 10 * refused > ROUNDS

    return fuzz
