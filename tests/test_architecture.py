"""Who imports whom, and calls that must not be: read from the source, never run."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("tfrecords_tools", "jdl_keras")

LEVELS = (
    {"tfrecords_tools"},
    {"config", "resampling"},
    {"config_rules"},
    {"config_file"},
    {"preprocessing", "experiment", "backend", "cluster"},
    {"data", "models", "losses", "metrics", "evaluation", "quantification"},
    # Knows the configuration and builds the network, for all that train and predict.
    {"run_folder"},
    {"training", "tuning", "inference", "serving", "run_processes"},
    {"benchmarking"},
    {"commands"},
)
"""Parts of the house from the ground up. Imports run downward, or inside a part."""

NEIGHBOURS = {
    ("metrics", "losses"): "the axes of a mask",
    ("tuning", "training"): "a trial is a training",
    ("tuning", "run_processes"): "and has a process of its own",
    ("serving", "inference"): "the served function is the predictor's",
    ("quantification", "evaluation"): "figures are saved in one way",
}
"""Imports between parts of one level, and what for."""

HEAVY = {"tensorflow", "keras", "keras_hub", "keras_tuner", "jax", "torch"}
PORTABLE = (
    *("jdl_keras.models", "jdl_keras.losses", "jdl_keras.metrics"),
    *("jdl_keras.preprocessing", "jdl_keras.data.augmentation"),
    *("jdl_keras.data.samples", "jdl_keras.data.portable_batches"),
    *("jdl_keras.training.objective", "jdl_keras.training.portable_trainer"),
)


def modules():
    """Name and syntax tree of every module of both packages."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


MODULES = modules()


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def nodes(tree, at_import=False):
    """All nodes; with `at_import` only those that run when the module is imported."""
    for child in ast.iter_child_nodes(tree):
        yield child
        later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if at_import and (later or is_type_checking(child)):
            continue
        yield from nodes(child, at_import)


def imports(tree, at_import=False):
    """Dotted names that a module imports, as `package.module` or `package.name`."""
    found = set()
    for node in nodes(tree, at_import):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where they lead"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def top(name):
    return name.split(".")[0]


def part_of(name):
    """The part of the house that a module, or a name in it, belongs to."""
    package, *rest = name.split(".")
    if package == "tfrecords_tools":
        return package
    known = set().union(*LEVELS)
    if rest and rest[0] not in known and f"jdl_keras.{rest[0]}" in MODULES:
        tree = MODULES[f"jdl_keras.{rest[0]}"]
        functions = {
            node.name for node in tree.body if isinstance(node, ast.FunctionDef)
        }
        return "commands" if "main" in functions else rest[0]
    return rest[0] if rest else None


def level_of(part):
    return next(index for index, parts in enumerate(LEVELS) if part in parts)


# Directions


def test_both_packages_are_read():
    assert {top(name) for name in MODULES} == set(PACKAGES)
    assert {"jdl_keras.train", "jdl_keras.models.methods"} <= set(MODULES)


def test_every_module_has_its_place():
    parts = {part_of(name) for name in MODULES} - {None}
    assert parts <= set().union(*LEVELS), "put the new part into LEVELS"


def is_allowed(name, imported):
    part, other = part_of(name), part_of(imported)
    return (
        part == other or level_of(other) < level_of(part) or (part, other) in NEIGHBOURS
    )


def test_imports_run_downward():
    wrong = [
        f"{name} imports {imported}"
        for name, tree in MODULES.items()
        for imported in imports(tree)
        if top(imported) in PACKAGES and not is_allowed(name, imported)
    ]
    assert wrong == []


def test_upward_import_would_be_seen():
    assert is_allowed("jdl_keras.train", "jdl_keras.training.loop.train")
    assert is_allowed("jdl_keras.metrics", "jdl_keras.losses.SPACE")
    assert not is_allowed("jdl_keras.training.loop", "jdl_keras.train.main")
    assert not is_allowed("jdl_keras.models.methods", "jdl_keras.metrics.PatientDice")
    assert not is_allowed("tfrecords_tools.study", "jdl_keras.config.Config")


def test_the_tools_know_nothing_of_learning():
    for name, tree in MODULES.items():
        if top(name) == "tfrecords_tools":
            found = {top(imported) for imported in imports(tree)}
            assert not found & {"jdl_keras", "keras", "keras_hub", "keras_tuner"}, name


def test_networks_losses_and_metrics_run_on_every_backend():
    for name, tree in MODULES.items():
        if not name.startswith(PORTABLE):
            continue
        used = imports(tree) | {
            ast.unparse(node) for node in nodes(tree) if isinstance(node, ast.Attribute)
        }
        assert not {top(one) for one in used} & (HEAVY - {"keras", "keras_hub"}), name
        private = {x for x in used if x.startswith(("keras.src", "keras_hub.src"))}
        assert not private, name


WITHOUT_TENSORFLOW = (
    *("jdl_keras.resampling", "jdl_keras.inference.evaluate_run"),
    *("jdl_keras.training.loop", "jdl_keras.training.portable_road"),
    *("jdl_keras.serving.send_studies", "jdl_keras.serving.model_card"),
    *("jdl_keras.serving.over_rest", "jdl_keras.serving.client"),
)


def test_what_can_be_done_without_tensorflow():
    for name in WITHOUT_TENSORFLOW:
        heavy = {top(loaded) for loaded in loaded_by(name)} & HEAVY
        assert not heavy - {"keras", "keras_hub"}, f"importing {name} loads {heavy}"


def loaded_by(name):
    """All modules that importing `name` loads, of ours and of others."""
    found, waiting = set(), [name]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found.add(current)
        parents = current.split(".")[:-1]
        waiting += [".".join(parents[: i + 1]) for i in range(len(parents))]
        if current in MODULES:
            waiting += imports(MODULES[current], at_import=True)
    return found


@pytest.mark.parametrize("package", ["evaluation", "quantification"])
def test_measuring_needs_no_network(package):
    prefix = f"jdl_keras.{package}"
    for name in MODULES:
        if name == prefix or name.startswith(f"{prefix}."):
            heavy = {top(loaded) for loaded in loaded_by(name)} & HEAVY
            assert not heavy, f"importing {name} loads {heavy}"


def test_settings_and_commands_import_nothing_heavy():
    for name in MODULES:
        if part_of(name) in {
            "commands",
            "config",
            "config_rules",
            "config_file",
            "run_folder",
        }:
            heavy = {top(loaded) for loaded in loaded_by(name)} & HEAVY
            assert not heavy, f"importing {name} loads {heavy}"


def test_what_an_import_loads_is_followed():
    loaded = loaded_by("jdl_keras.training.tensorflow_road")
    assert {"tensorflow", "keras_hub", "jdl_keras.config", "jdl_keras"} <= loaded


# Calls that must not be

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal"}
FORBIDDEN_MODULES |= {"shelve"}
FORBIDDEN_NAMES = {"eval", "exec", "__import__"}
FORBIDDEN_METHODS = {
    "ignore_errors",
    "extractall",
    "load_model",
    "enable_unsafe_deserialization",
}
FORBIDDEN_CALLS = {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system"}
FORBIDDEN_OPTIONS = {("allow_pickle", True), ("safe_mode", False), ("shell", True)}


def forbidden(tree):
    """What a module must not do, as readable strings."""
    for imported in imports(tree):
        if top(imported) in FORBIDDEN_MODULES:
            yield f"import {imported}"
        if imported.split(".")[-1] in FORBIDDEN_METHODS:
            yield f"import {imported}"
    for call in (node for node in nodes(tree) if isinstance(node, ast.Call)):
        function = ast.unparse(call.func)
        if (
            function in FORBIDDEN_NAMES | FORBIDDEN_CALLS
            or function.split(".")[-1] in FORBIDDEN_METHODS
        ):
            yield f"line {call.lineno}: {function}()"
        for option in call.keywords:
            value = (
                option.value.value if isinstance(option.value, ast.Constant) else None
            )
            if (option.arg, value) in FORBIDDEN_OPTIONS:
                yield f"line {call.lineno}: {option.arg}={value}"


def test_no_forbidden_call():
    for name, tree in MODULES.items():
        assert list(forbidden(tree)) == [], name


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "exec('1')",
        "yaml.load(text)",
        "numpy.load(path, allow_pickle=True)",
        "keras.models.load_model(path)",
        "from keras.models import load_model",
        "load_model(path)",
        "keras.saving.deserialize_keras_object(x, safe_mode=False)",
        "dataset.ignore_errors()",
        "archive.extractall(folder)",
        "subprocess.run(line, shell=True)",
        "def f():\n    return lambda: eval('1')",
    ],
)
def test_forbidden_call_would_be_seen(line):
    assert list(forbidden(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    [
        "yaml.safe_load(text)",
        "numpy.load(path, allow_pickle=False)",
        "shutil.rmtree(folder, ignore_errors=True)",
        "network.load_weights(path)",
        "re.compile('eval')",
        "subprocess.run(['git'], check=False)",
    ],
)
def test_harmless_call_is_let_pass(line):
    assert not list(forbidden(ast.parse(line)))
