"""What pip gets: the built wheel, its metadata, and the agreement of imports with declared dependencies."""

import ast
import os
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import entry_points, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from audiolm_hf.bundled import example_prompt, list_checkpoints
from audiolm_hf.provenance_audiolm import VERSION
from tests.conftest import CONSTRAINTS, TESTED_PYTHON, warning_filters
from tests.project.test_layering import PACKAGE, SOURCES, imported_modules, nodes_in_functions, part_of, tree_of

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INFO = f"audiolm_hf-{VERSION}.dist-info"
DISTRIBUTIONS = {
    "PIL": "pillow",
    "parselmouth": "praat-parselmouth",
    "perth": "resemble-perth",
    "pyworld": "pyworld-prebuilt",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}  # where the module is named otherwise
EXTRAS_OF_PART = {"data": {"train"}, "training": {"train"}, "evaluation": {"evaluation"}, "demo": {"space"}}
# Asked for by name where they are used: what they require themselves does not install or load everywhere.
LEFT_TO_THE_USER = {"distillmos", "resemblyzer"}
CHECKPOINT_FILES = {"config.json", "model.safetensors", "generation_config.json", "processor_config.json", "README.md"}
MAX_CHECKPOINT_BYTES = 40 * 10**6  # of each bundled checkpoint


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the backend itself so that nothing is downloaded."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-500:]
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def members(wheel: Path) -> dict[str, int]:
    """Files of the wheel with their sizes in bytes."""
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.file_size for info in archive.infolist()}


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(f"{INFO}/METADATA").decode())


def test_wheel_holds_every_file_of_the_package_and_no_other(members: dict[str, int]):
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    expected = {str(path.relative_to(PACKAGE.parent)) for path in files} | {"audiolm_hf_cli.py"}
    info = {name for name in members if name.startswith(f"{INFO}/")}
    assert set(members) - info == expected
    assert "audiolm_hf/py.typed" in members
    assert f"{INFO}/licenses/LICENSE" in info


@pytest.mark.parametrize("name", list_checkpoints())
def test_wheel_holds_the_checkpoint_and_its_example(members: dict[str, int], name: str):
    folder = f"audiolm_hf/checkpoints/{name}/"
    assert {folder + file for file in CHECKPOINT_FILES} <= set(members)
    assert f"audiolm_hf/examples/{Path(example_prompt(name)).name}" in members
    assert sum(size for file, size in members.items() if file.startswith(folder)) <= MAX_CHECKPOINT_BYTES


def test_wheel_holds_no_pickles(members: dict[str, int]):
    assert not [name for name in members if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl", ".npy", ".npz"))]


def test_metadata_says_what_is_true(metadata: Message):
    assert metadata["Version"] == VERSION
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_payload() == (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_unpacked_wheel_runs_away_from_the_repository(wheel: Path, tmp_path: Path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import pathlib, sys, audiolm_hf\n"
        "assert pathlib.Path(audiolm_hf.__file__).is_relative_to(sys.argv[1]), audiolm_hf.__file__\n"
        "print(audiolm_hf.__version__, *(pathlib.Path(audiolm_hf.checkpoint(name)) / 'config.json'"
        " for name in audiolm_hf.list_checkpoints()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    version, *configs = result.stdout.split()
    assert version == VERSION
    assert configs
    assert all(Path(config).is_file() for config in configs)


def test_console_script_is_a_function():
    (target,) = PROJECT["scripts"].values()
    installed = [entry for entry in entry_points(group="console_scripts") if entry.name == "audiolm-hf"]
    assert {entry.value for entry in installed} <= {target}
    module, _, name = target.partition(":")
    tree = ast.parse((PACKAGE.parent / Path(*module.split("."))).with_suffix(".py").read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def requirements(extra: str | None = None) -> dict[str, Requirement]:
    """Declared requirements by distribution name, those of extras that an extra refers to included."""
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    found = {}
    for requirement in map(Requirement, lines):
        if canonicalize_name(requirement.name) == "audiolm-hf":
            for other in requirement.extras:
                found |= requirements(other)
        else:
            found[canonicalize_name(requirement.name)] = requirement
    return found


@pytest.mark.parametrize("extra", [None, *PROJECT["optional-dependencies"]])
def test_every_requirement_is_bounded_and_named_once(extra: str | None):
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    own = [canonicalize_name(Requirement(line).name) for line in lines]
    assert len(own) == len(set(own))
    assert own == sorted(own, key=lambda name: (name != "audiolm-hf", name))
    for name, requirement in requirements(extra).items():
        assert {bound.operator for bound in requirement.specifier} == {">=", "<"}, f"{name} has not two bounds"


def test_lower_bounds_agree_with_each_other():
    """What is installed at its lower bound, as all is for .ci/versions, is content with the others' lower bounds."""
    lowest = {
        name: next(Version(bound.version) for bound in each.specifier if bound.operator == ">=")
        for name, each in (requirements() | requirements("test")).items()
    }
    for name in [name for name in lowest if Version(version(name)) == lowest[name]]:
        for each in map(Requirement, requires(name) or []):
            other = canonicalize_name(each.name)
            if other in lowest and (each.marker is None or each.marker.evaluate({"extra": ""})):
                assert each.specifier.contains(lowest[other]), f"{name} needs {each}, and {lowest[other]} is allowed"


def test_the_tested_set_is_exact_and_in_range():
    lines = (line.partition("#")[0].strip() for line in CONSTRAINTS.read_text().splitlines())
    pins = {canonicalize_name(pin.name): pin.specifier for pin in map(Requirement, filter(None, lines))}
    for name, specifier in pins.items():
        (pin,) = specifier
        assert pin.operator == "==" and not Version(pin.version).local, name
        declared = requirements("test").get(name) or requirements().get(name)
        assert declared is None or declared.specifier.contains(pin.version), name
    assert set(requirements("test")) | set(requirements()) <= set(pins)
    assert pins["torch"].contains("2.13.0+cpu") and pins["torch"].contains("2.13.0+cu130")


def test_warnings_are_errors_on_the_tested_set_and_only_ours_elsewhere():
    assert warning_filters({"torch": "2.13.0+cpu", "transformers": "5.24.0", "something": "1"}, TESTED_PYTHON) == []
    for versions, python in (({"transformers": "5.23.0"}, TESTED_PYTHON), ({"transformers": "5.24.0"}, (3, 13))):
        assert warning_filters(versions, python) == ["default", "error:::audiolm_hf", "error:::tests"]


def test_test_extra_holds_what_every_part_needs():
    needed = {name for extra in ("train", "evaluation", "space") for name in requirements(extra)}
    assert needed <= set(requirements("test")) <= set(requirements("dev"))


def test_torch_stays_below_the_first_untested_version():
    torch = requirements()["torch"].specifier
    assert "2.13.0" in torch
    assert "2.14.0" not in torch


def test_imports_are_declared():
    """At module level only what the part's own extras install; inside functions anything declared at all."""
    of_extra = {extra: set(requirements(extra)) for extra in [None, *PROJECT["optional-dependencies"]]}
    declared = LEFT_TO_THE_USER.union(*of_extra.values())
    for path in SOURCES:
        tree = tree_of(path)
        allowed = of_extra[None].union(*(of_extra[extra] for extra in EXTRAS_OF_PART.get(part_of(path), ())))
        later = nodes_in_functions(tree)
        for node, module in imported_modules(tree):
            top = module.partition(".")[0]
            name = canonicalize_name(DISTRIBUTIONS.get(top, top))
            if name not in ("audiolm-hf", "audiolm-hf-cli") and top not in sys.stdlib_module_names:
                assert name in (declared if node in later else allowed), f"{path}, line {node.lineno}: {module}"


def test_what_training_takes_from_the_evaluation_is_installed_with_it():
    """Also what these functions import when they are called."""
    taken, allowed = 0, set(requirements()) | set(requirements("train"))
    for path in sorted((PACKAGE / "training").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("audiolm_hf.evaluation."):
                continue
            source = ast.parse((PACKAGE.parent / f"{node.module.replace('.', '/')}.py").read_text())
            names = {alias.name for alias in node.names}
            functions = [part for part in source.body if isinstance(part, ast.FunctionDef) and part.name in names]
            taken += len(functions)
            for _, module in (found for function in functions for found in imported_modules(function)):
                top = module.partition(".")[0]
                name = canonicalize_name(DISTRIBUTIONS.get(top, top))
                assert name in allowed or name == "audiolm-hf", f"{path.name} calls what needs {top}"
    assert taken >= 4
