"""The help of a command appears at once: it loads nothing that takes time to load."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("jdl_keras", "tfrecords_tools")
    for path in (ROOT / package).rglob("*.py")
    if "\ndef main(" in path.read_text(encoding="utf-8")
)

SLOW_TO_LOAD = {
    *("tensorflow", "keras", "keras_hub", "keras_tuner", "jax", "torch", "grpc"),
    *("scipy", "skimage", "pandas", "matplotlib", "nibabel", "pydicom", "highdicom"),
}

# One process for all: a module counts for the first command that loads it.
HELP = """
import contextlib, importlib, io, json, sys
known, loaded = set(sys.modules), {}
for command in sys.argv[1:]:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        importlib.import_module(command).main(["--help"])
    assert command in text.getvalue(), text.getvalue()
    new = {name.split(".")[0] for name in set(sys.modules) - known}
    loaded[command], known = sorted(new), set(sys.modules)
print(json.dumps(loaded))
"""


def test_help_loads_nothing_slow():
    done = subprocess.run(
        [sys.executable, "-c", HELP, *COMMANDS],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    slow = {name: SLOW_TO_LOAD & set(modules) for name, modules in loaded.items()}
    assert not any(slow.values()), slow
    # What it looks at is what commands load, and it would see more.
    assert "jsonargparse" in loaded[COMMANDS[0]]
    assert {"jdl_keras.predict", "tfrecords_tools.build"} <= set(loaded)
