"""transformers' own common tests, run on this package's models.

Their sources are in the sdist of transformers, not in its wheel, so the sdist of the installed version is fetched and
`transformers_common_cases.py` runs beside them, in a folder of its own. The sdist leaves out the other folders that
they import from; small stubs stand in for these. `TRANSFORMERS_TESTS=path/to/transformers/tests` takes everything from
a checkout instead, the generation tests included.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import transformers

CASES = Path(__file__).with_name("transformers_common_cases.py")
SOURCE = Path(__file__).parents[2] / "src"

# Starts a test's function in several processes, as transformers' own does with more settings.
RUN_DISTRIBUTED = """import os
import socket

import torch


def _work(rank, function, world_size, port, arguments):
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": str(world_size)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world_size)
    function(rank, *arguments)
    torch.distributed.destroy_process_group()


def run_distributed(world_size):
    def wrap(function):
        def run(*arguments):
            with socket.socket() as found:
                found.bind(("localhost", 0))
                port = found.getsockname()[1]
            torch.multiprocessing.spawn(_work, (function, world_size, port, arguments), world_size)

        return run

    return wrap
"""

STUBS = {
    "distributed_testing_utils.py": RUN_DISTRIBUTED,
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n\n\nclass ExportGenerateTesterMixin:\n    pass\n",
    "utils/test_configuration_utils.py": "config_common_kwargs = {}\n",
    "../utils/fetch_hub_objects_for_ci.py": "def url_to_local_path(url):\n    return url\n",
}


def fetch_sources(folder: Path) -> Path:
    """Download the sdist of the installed transformers; the folder of its tests."""
    requirement = f"transformers=={transformers.__version__}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "transformers", requirement]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    archives = list(folder.glob("transformers-*.tar.gz"))
    if result.returncode or not archives:
        reason = (result.stderr.strip() or "no sdist").splitlines()[-1]
        pytest.skip(f"the sdist of {requirement} cannot be fetched: {reason}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    return archives[0].with_name(f"transformers-{transformers.__version__}") / "tests"


@pytest.fixture(scope="module")
def common_tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with transformers' common tests, stubs for what is missing, and our cases as `test_cases.py`."""
    given = os.environ.get("TRANSFORMERS_TESTS")
    sources = Path(given) if given else fetch_sources(tmp_path_factory.mktemp("sdist"))
    package = tmp_path_factory.mktemp("outside") / "common_tests"
    package.mkdir()
    for path in [*sources.glob("test_*_common.py"), *sources.glob("test_*_mixin.py")]:
        shutil.copy(path, package)
    for name, text in STUBS.items():
        path = package / name
        path.parent.mkdir(exist_ok=True)
        if (sources / name).exists():
            shutil.copy(sources / name, path)
        else:
            path.write_text(text)
    for folder in (package, *(path for path in package.iterdir() if path.is_dir())):
        (folder / "__init__.py").touch()
    shutil.copy(CASES, package / "test_cases.py")
    return package


@pytest.mark.network
def test_models_pass_the_common_tests(common_tests: Path):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rfE",
        "-p",
        "no:cacheprovider",
        "--tb=short",
        "--disable-warnings",
    ]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "HF_HUB_OFFLINE": "1"}
    command += ["--rootdir", str(common_tests.parent), str(common_tests / "test_cases.py")]
    result = subprocess.run(
        command, cwd=common_tests.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-20000:] + result.stderr[-2000:]
    closing_line = result.stdout.strip().splitlines()[-1]
    sys.stdout.write(closing_line)  # seen with -rP
    passed = int(re.search(r"(\d+) passed", closing_line).group(1))
    assert passed >= 500, closing_line  # fewer means that the mixins skipped what they should run
