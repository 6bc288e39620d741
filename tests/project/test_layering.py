"""The walls of the house, read from the source: which file may import which, and what no file of src may contain."""

import ast
import functools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "audiolm_hf"

# Files that travel with a checkpoint, in the order of the flow, which is that of docs/code.md: each imports
# only from those before it.
SHIPPED_FLOW = tuple(
    re.findall(r"^  (\w+_audiolm)\.py ", (PACKAGE.parents[1] / "docs/code.md").read_text(), re.MULTILINE)
)
# The rest of the package, each folder or file with those that it may import besides the shipped files and itself.
PACKAGE_FLOW = {
    "bundled": set(),
    "threads": set(),
    "registration": {"bundled"},
    "hub": {"bundled", "registration"},
    "__init__": {"bundled", "registration", "hub"},
    "files": set(),
    "progress": set(),
    "run_folder": {"files"},
    "settings": set(),
    "data": {"files", "progress", "run_folder", "settings"},
    "evaluation": {"data", "files", "progress", "run_folder", "settings", "threads"},
    "training": {"bundled", "data", "evaluation", "files", "progress", "run_folder", "settings", "threads"},
    "demo": {"bundled", "hub", "run_folder", "threads"},
    "commands": {
        "__init__",
        "bundled",
        "data",
        "demo",
        "evaluation",
        "files",
        "hub",
        "progress",
        "run_folder",
        "settings",
        "threads",
        "training",
    },
    "cli": {"__init__", "commands", "run_folder"},
}
SHIPPED_LIBRARIES = {"torch", "numpy", "transformers", "huggingface_hub"}
GUARDED_LIBRARIES = {"soundfile", "soxr", "numba", "peft", "perth"}  # only inside try: a checkpoint loads without them
UNSAFE_MODULES = {"pickle", "joblib", "dill", "cloudpickle", "marshal", "shelve"}
# Functions of every command (told in cli.py), and callbacks of transformers.
TOLD_ELSEWHERE = {"add_options", "run", "on_train_begin", "on_train_end", "on_step_end", "on_log", "on_evaluate"}
MAX_LINES = 400
MAX_FILES = 16  # of a folder but the package's own, whose modules travel with a checkpoint

SOURCES = sorted(PACKAGE.rglob("*.py"))
SOURCES_OF_TRAINING = [path for path in SOURCES if path.is_relative_to(PACKAGE / "training")]
FOLDERS = sorted({path.parent for path in SOURCES} - {PACKAGE})
FOLDERS_OF_TESTS = sorted({path.parent for path in (PACKAGE.parents[1] / "tests").rglob("*.py")})
SHIPPED = [path for path in SOURCES if path.parent == PACKAGE and path.stem.endswith("_audiolm")]


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def part_of(path: Path) -> str:
    """The key of PACKAGE_FLOW that a file belongs to."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else path.stem


def imported_modules(tree: ast.AST, package: tuple[str, ...] = ("audiolm_hf",)) -> Iterator[tuple[ast.stmt, str]]:
    """Every import anywhere in a file as (node, absolute module name); package is the folder the file lies in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *((node.module,) if node.module else ())))
            if (node.level and not node.module) or module == "audiolm_hf":
                # `from . import x` and `from audiolm_hf import x` reach a module where there is one of that name.
                yield from ((node, f"{module}.{alias.name}") for alias in node.names)
            else:
                yield node, module


def own_part(module: str) -> str | None:
    """`data` of `audiolm_hf.data.audio`, `__init__` of a name that is no module; None for other packages."""
    head, _, rest = module.partition(".")
    if head != "audiolm_hf":
        return None
    part = rest.partition(".")[0]
    is_module = (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").exists()
    return part if part and is_module else "__init__"


def guarded_nodes(tree: ast.AST) -> set[ast.AST]:
    """Nodes in the body of a try statement."""
    tries = (node for node in ast.walk(tree) if isinstance(node, ast.Try))
    return {inner for node in tries for statement in node.body for inner in ast.walk(statement)}


def nodes_in_functions(tree: ast.Module) -> set[ast.AST]:
    """Nodes that run only when a function is called."""
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {inner for function in functions for inner in ast.walk(function)}


def called_name(node: ast.AST) -> str:
    """`torch.load` of a call `torch.load(...)`; empty for anything else."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


# -- what no file of src may contain: each check yields (line, complaint) -------------------------------------------


def forbidden_statements(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield node.lineno, "assert: raise ValueError or TypeError"
        if isinstance(node, ast.Global):
            yield node.lineno, "global state"


def forbidden_calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        name = called_name(node)
        if name in {"print", "eval", "exec", "torch.load", "torch.save"}:
            yield node.lineno, name
        if any(keyword.arg == "allow_pickle" for keyword in getattr(node, "keywords", ())):
            yield node.lineno, "allow_pickle"


def unsafe_imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node, module in imported_modules(tree):
        if module.partition(".")[0] in UNSAFE_MODULES:
            yield node.lineno, f"import of {module}"


def public_definitions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body)


def missing_docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    if not ast.get_docstring(tree):
        yield 1, "no docstring of the module"
    for node in public_definitions(tree.body):
        if not (ast.get_docstring(node) or is_setter_or_overload(node) or node.name in TOLD_ELSEWHERE):
            yield node.lineno, f"no docstring of {node.name}"


def is_setter_or_overload(node: ast.AST) -> bool:
    return any(ast.unparse(mark).endswith(("overload", ".setter")) for mark in getattr(node, "decorator_list", ()))


def missing_annotations(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            for argument in filter(None, named):
                if argument.annotation is None and argument.arg not in {"self", "cls"}:
                    yield node.lineno, f"no type of {argument.arg} in {node.name}"
            if node.returns is None:
                yield node.lineno, f"no return type of {node.name}"


def silent_errors(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            kind = called_name(node.exc) or ast.unparse(node.exc)
            has_message = isinstance(node.exc, ast.Call) and node.exc.args and ast.unparse(node.exc.args[0]) != "''"
            if kind in {"ValueError", "TypeError"} and not has_message:
                yield node.lineno, f"{kind} without a message"


# -- what no shipped file may contain ------------------------------------------------------------------------------


def unshippable_imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Imports that transformers cannot resolve when a checkpoint's code runs where the package is not installed."""
    guarded = guarded_nodes(tree)
    for node, module in imported_modules(tree):
        top = module.partition(".")[0]
        if isinstance(node, ast.ImportFrom) and node.level:
            if node.level > 1 or not node.module or "." in node.module or not node.module.endswith("_audiolm"):
                yield node.lineno, f"{ast.unparse(node)}: only `from .name_audiolm import Name`"
        elif top == "audiolm_hf":
            yield node.lineno, f"{module}: the package is not there"
        elif top in GUARDED_LIBRARIES:
            if node not in guarded:
                yield node.lineno, f"{module} outside try"
        elif top not in SHIPPED_LIBRARIES and top not in sys.stdlib_module_names:
            yield node.lineno, f"{module}: only {', '.join(sorted(SHIPPED_LIBRARIES))} and the standard library"


def own_classes() -> set[str]:
    """Names of the configurations and models defined in shipped files, with everything that derives from them."""
    bases = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for path in SHIPPED
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef)
    }
    roots = {"PreTrainedConfig", "PreTrainedModel"}
    found: set[str] = set()
    while new := {name for name, parents in bases.items() if parents & (roots | found)} - found:
        found |= new
    return found


def isinstance_on(names: set[str]) -> Callable[[ast.Module], Iterator[tuple[int, str]]]:
    def check(tree: ast.Module) -> Iterator[tuple[int, str]]:
        for node in ast.walk(tree):
            if called_name(node) in {"isinstance", "issubclass"}:
                kinds = {inner.id for inner in ast.walk(node.args[1]) if isinstance(inner, ast.Name)}
                kinds |= {inner.attr for inner in ast.walk(node.args[1]) if isinstance(inner, ast.Attribute)}
                for kind in sorted(kinds & names):
                    yield node.lineno, f"isinstance on {kind}: compare config.model_type"

    return check


def postponed_annotations(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Postponed annotations turn the type checks of configurations off without a word."""
    for node, module in imported_modules(tree):
        if module == "__future__":
            yield node.lineno, "from __future__"


EVERYWHERE = (
    forbidden_statements,
    forbidden_calls,
    unsafe_imports,
    missing_docstrings,
    missing_annotations,
    silent_errors,
)
IN_SHIPPED = (unshippable_imports, postponed_annotations, isinstance_on(own_classes()))


def complaints(path: Path, checks: tuple[Callable, ...]) -> list[str]:
    tree = tree_of(path)
    return [f"{name_of(path)}:{line}: {text}" for check in checks for line, text in check(tree)]


def test_sources_keep_the_rules():
    assert [complaint for path in SOURCES for complaint in complaints(path, EVERYWHERE)] == []


def test_shipped_files_run_without_the_package():
    assert [complaint for path in SHIPPED for complaint in complaints(path, IN_SHIPPED)] == []


def test_shipped_files_import_only_earlier_ones():
    for path in SHIPPED:
        assert path.stem in SHIPPED_FLOW, f"{path.name} is new: give it its place in docs/code.md"
        earlier = SHIPPED_FLOW[: SHIPPED_FLOW.index(path.stem)]
        parts = {own_part(module) for _, module in imported_modules(tree_of(path))}
        assert parts - {None} <= set(earlier), path.name


def test_scan_of_the_text_finds_the_imports_of_the_code():
    # transformers copies what a regular expression finds, in docstrings too; it must find what Python imports.
    from transformers.dynamic_module_utils import get_relative_imports

    for path in SHIPPED:
        own = {own_part(module) for _, module in imported_modules(tree_of(path))} - {None}
        assert set(get_relative_imports(path)) == own, path.name


def test_package_imports_go_one_way():
    for path in SOURCES:
        if path in SHIPPED:
            continue
        part = part_of(path)
        assert part in PACKAGE_FLOW, f"{part} is new: give it its place in PACKAGE_FLOW"
        package = ("audiolm_hf", *path.relative_to(PACKAGE).parts[:-1])
        parts = {own_part(module) for _, module in imported_modules(tree_of(path), package)} - {None}
        assert parts <= {part, *SHIPPED_FLOW, *PACKAGE_FLOW[part]}, name_of(path)


def test_no_module_imports_itself_through_others():
    # Imports in functions count, too: they only put off the day on which a circle closes.
    graph = {}
    for path in SOURCES:
        relative = path.relative_to(PACKAGE).with_suffix("")
        own = ".".join(("audiolm_hf", *relative.parts)).removesuffix(".__init__")
        imports = imported_modules(tree_of(path), ("audiolm_hf", *relative.parts[:-1]))
        graph[own] = {module for _, module in imports}
    for own, modules in graph.items():
        seen, todo = set(), [module for module in modules if module in graph]
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                todo += [following for following in graph[module] if following in graph]
        assert own not in seen, f"{own} imports itself through {sorted(seen)}"


def test_files_are_short_and_named():
    for path in SOURCES:
        lines = path.read_text().splitlines()
        assert lines[0] == "# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0", path
        assert len(lines) <= MAX_LINES, path


@pytest.mark.parametrize("folder", [*FOLDERS, *FOLDERS_OF_TESTS], ids=lambda folder: folder.name)
def test_folder_is_small(folder: Path):
    assert len(list(folder.glob("*.py"))) <= MAX_FILES


def test_training_is_in_short_functions():
    nodes = [node for path in SOURCES_OF_TRAINING for node in ast.walk(tree_of(path))]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    assert [node.name for node in functions if node.end_lineno - node.lineno >= 60] == []


def test_shipped_names_are_unique_once_the_folders_are_gone():
    stems = [path.stem for path in SOURCES if path.stem != "__init__"]
    assert not {path.stem for path in SHIPPED} & {stem for stem in stems if stems.count(stem) > 1}


@pytest.mark.parametrize(
    ("check", "code", "complaint"),
    [
        (forbidden_statements, "def f():\n    assert x", "assert"),
        (forbidden_statements, "def f():\n    global x", "global"),
        (forbidden_calls, "print(1)", "print"),
        (forbidden_calls, "x = torch.load('a')", "torch.load"),
        (forbidden_calls, "np.load('a', allow_pickle=True)", "allow_pickle"),
        (unsafe_imports, "def f():\n    import pickle", "pickle"),
        (unsafe_imports, "from joblib import dump", "joblib"),
        (missing_docstrings, "x = 1", "module"),
        (missing_docstrings, '"""M."""\nclass A:\n    """A."""\n    def f(self): ...', "docstring of f"),
        (missing_annotations, "def f(a: int, *b) -> None: ...", "type of b"),
        (missing_annotations, "def f(a: int): ...", "return type of f"),
        (silent_errors, "raise ValueError", "without a message"),
        (silent_errors, "raise TypeError()", "without a message"),
        (silent_errors, "raise ValueError('')", "without a message"),
        (unshippable_imports, "from . import token_layout_audiolm", "only `from"),
        (unshippable_imports, "from .data.audio import x", "only `from"),
        (unshippable_imports, "from ..a_audiolm import x", "only `from"),
        (unshippable_imports, "import audiolm_hf.hub", "the package is not there"),
        (unshippable_imports, "def f():\n    import sklearn.cluster", "sklearn"),
        (unshippable_imports, "import soxr", "outside try"),
        (isinstance_on({"AudioLMConfig"}), "isinstance(x, (int, AudioLMConfig))", "isinstance on AudioLMConfig"),
        (postponed_annotations, "from __future__ import annotations", "__future__"),
    ],
)
def test_check_finds_what_it_forbids(check: Callable, code: str, complaint: str):
    found = [text for _, text in check(ast.parse(code))]
    assert len(found) == 1
    assert re.search(re.escape(complaint), found[0])


@pytest.mark.parametrize(
    ("check", "code"),
    [
        (unshippable_imports, "try:\n    import soxr\nexcept ImportError:\n    soxr = None"),
        (unshippable_imports, "import math\nimport torch.nn as nn\nfrom .token_layout_audiolm import code_ids"),
        (silent_errors, "try:\n    f()\nexcept OSError as error:\n    raise ValueError(f'{x}: give y') from error"),
        (missing_docstrings, '"""M."""\ndef _f(): ...\ndef g():\n    """G."""\n    def h(): ...'),
        (isinstance_on({"AudioLMConfig"}), "isinstance(x, PreTrainedConfig)"),
    ],
)
def test_check_allows_what_is_right(check: Callable, code: str):
    assert list(check(ast.parse(code))) == []


def test_own_classes_are_found():
    assert {"SoundStreamConfig", "AudioLMStageConfig", "AudioLMCoarseConfig"} <= own_classes()
