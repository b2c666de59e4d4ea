"""A folder is there whole or not at all, whenever its writer dies."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tfrecords_tools.files import whole_folder

ROOT = Path(__file__).parents[2]

KILLED = """
import os, signal, sys
from pathlib import Path
from tfrecords_tools import files

def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)

where, out = sys.argv[1:]
with files.whole_folder(Path(out) / "1") as folder:
    (folder / "inner").mkdir()
    (folder / "inner" / "half").write_text("half")
    if where == "writing":
        killed()
    # The last file to be synced, or the folder's new name.
    module, name = {"syncing": (files, "sync"), "renaming": (os, "rename")}[where]
    setattr(module, name, killed)
"""


@pytest.mark.parametrize("where", ["writing", "syncing", "renaming"])
def test_killed_writer_leaves_no_folder_and_the_next_one_cleans_up(tmp_path, where):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, where, tmp_path],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name == ".tmp-1"
    with whole_folder(tmp_path / "1") as folder:
        assert not [*folder.iterdir()]
        (folder / "whole").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["1", "whole"]


def test_failing_writer_leaves_nothing(tmp_path):
    def fail():
        with whole_folder(tmp_path / "1") as folder:
            (folder / "half").touch()
            raise KeyboardInterrupt

    pytest.raises(KeyboardInterrupt, fail)
    assert not [*tmp_path.iterdir()]


def test_folder_that_exists_is_not_replaced(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "old").touch()

    def replace():
        with whole_folder(tmp_path / "1") as folder:
            (folder / "new").touch()

    pytest.raises(OSError, replace)
    assert [path.name for path in tmp_path.rglob("*")] == ["1", "old"]
