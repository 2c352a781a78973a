"""The walls of the house: a package imports from lower floors only, and each outside library has one door."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import tism_scan

PACKAGE = "tism_scan"
ROOT = Path(tism_scan.__file__).parent

# From the ground up. A package imports from packages of lower rows only, and freely within itself.
ROWS = [
    ["callable_package", "errors", "progress", "version"],
    ["optional"],
    ["bgzip", "storage"],
    ["bigwig", "genome"],
    ["models", "motifs", "plan", "plot"],
    ["browser", "engine", "store"],
    ["attribution", "demo", "export", "scan"],
    ["locus", "ray_scan", "variants"],
    ["executors"],
    ["peaks", "refine"],
    ["effects"],
    ["api"],
    ["cli"],
    # The package itself offers names from everywhere, and loads none of them by itself.
    ["__init__", "__main__"],
]
ROW_OF = {module: i_row for i_row, row in enumerate(ROWS) for module in row}

DOORS = {
    "botocore": {"storage"},
    "click": {"cli"},
    "google_crc32c": {"store.shards"},
    "h5py": {"export.region_files", "models.keras_h5", "motifs.modisco"},
    "logomaker": {"plot"},
    "matplotlib": {"plot"},
    "memelite": {"motifs.tomtom"},
    "numcodecs": {"store.shards"},
    "obstore": {"storage"},
    "psutil": {"bigwig", "storage", "store"},
    "pyBigWig": {"bigwig"},
    "pyarrow": {"effects.parquet"},
    "pyfaidx": {"genome"},
    "pysam": {"bgzip"},
    "ray": {"ray_scan"},
    "rich": {"cli"},
    "tangermeme": {"attribution"},
    "torch": {
        "attribution",
        "demo.train",
        "effects",
        "engine",
        "locus",
        "models",
        "peaks",
        "refine",
        "scan.worker",
    },
    "zarr": {"store"},
}
# Side doors: open only while a function runs.
LAZY_DOORS = {
    "xarray": {"store.reading"},  # for those who have it
    "rich": {"attribution"},  # the bar of an ISM that takes long, for those who work without the CLI
}
EVERYWHERE = {"numpy"}


class Import(NamedTuple):
    """One import of a module: who imports what, and whether it waits for a call, or is never carried out."""

    importer: str
    imported: str
    is_lazy: bool
    is_for_types: bool


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def is_for_types(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def names_imported(node):
    """Return the full names of the modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if node.level:
        return ["." * node.level + (node.module or "")]
    if node.module == PACKAGE:  # `from tism_scan import store` imports a module, or a name of one
        return [f"{PACKAGE}.{alias.name}" for alias in node.names]
    return [node.module]


def imports_below(node, importer, *, lazy=False, for_types=False):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            for name in names_imported(child):
                yield Import(importer, name, lazy, for_types)
        else:
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports_below(
                child, importer, lazy=lazy or is_function, for_types=for_types or is_for_types(child)
            )


def imports_of(source, importer):
    return list(imports_below(ast.parse(source), importer))


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
IMPORTS = [found for name, path in MODULES.items() for found in imports_of(path.read_text(), name)]


def room(module):
    """Return the folder or file at the top of the package in which a module lives."""
    return module.partition(".")[0]


def inner(found):
    """Return the name within our package of what is imported, or None for another library's."""
    top, _, name = found.imported.partition(".")
    if top != PACKAGE:
        return None
    return name if room(name) in ROW_OF | dict.fromkeys(map(room, MODULES)) else "__init__"


def goes_up(found):
    imported = inner(found)
    if imported is None or room(imported) == room(found.importer):
        return False
    if not {room(imported), room(found.importer)} <= ROW_OF.keys():
        return False  # another test asks for its row
    if imported == "__init__":  # a plain name such as the version
        return found.imported != f"{PACKAGE}.__version__"
    return ROW_OF[room(imported)] >= ROW_OF[room(found.importer)]


def has_no_door(found):
    library = found.imported.partition(".")[0]
    if library in sys.stdlib_module_names or library in EVERYWHERE or library == PACKAGE:
        return False
    if found.is_for_types:
        return library not in DOORS | LAZY_DOORS
    doors = DOORS.get(library, set()) | (LAZY_DOORS.get(library, set()) if found.is_lazy else set())
    return not {found.importer, room(found.importer)} & doors


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_its_row(module):
    assert room(module) in ROW_OF, f"give {module} a row in ROWS"


@pytest.mark.parametrize("name", [name for row in ROWS for name in row if not name.startswith("__")])
def test_every_package_is_on_the_map(name):
    text = (Path(__file__).parents[1] / ".github" / "CONTRIBUTING.md").read_text()
    assert f"`{name}`" in text[text.index("| package | what it does |") :]


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downward_only(module):
    assert [found.imported for found in IMPORTS if found.importer == module and goes_up(found)] == []


@pytest.mark.parametrize("module", MODULES)
def test_other_libraries_come_in_by_their_doors(module):
    assert [found.imported for found in IMPORTS if found.importer == module and has_no_door(found)] == []


def test_imports_are_absolute():
    assert [found for found in IMPORTS if found.imported.startswith(".")] == []


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("plan", "from tism_scan.store import ScoreStore"),
        ("plan.tiling", "from tism_scan import store"),
        ("plan", "import tism_scan.store"),
        ("plan", "from tism_scan.models import ModelSource"),
        ("plan", "def f():\n    from tism_scan.store.ledger import Ledger"),
        ("store.ledger", "from tism_scan.engine import Engine"),
        ("store", "from tism_scan import ScanPlan"),
        ("store", "import tism_scan"),
        ("storage", "try:\n    from tism_scan.genome.fasta import Genome\nexcept ImportError:\n    pass"),
    ],
)
def test_import_upward_would_be_noticed(importer, source):
    assert any(goes_up(found) for found in imports_of(source, importer))


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("plan", "import zarr"),
        ("plan", "from zarr.codecs import Crc32cCodec"),
        ("store", "def f():\n    import torch"),
        ("demo.synthesis", "import torch"),
        ("scan", "import ray"),
        ("ray_scan.driver", "import torch"),
        ("attribution.mutagenesis", "from rich.console import Console"),
        ("store", "import xarray"),
        ("store", "def f():\n    import xarray"),
    ],
)
def test_library_by_another_door_would_be_noticed(importer, source):
    assert any(has_no_door(found) for found in imports_of(source, importer))


LIGHT = ["tism_scan", "tism_scan.cli", "tism_scan.genome", "tism_scan.plan", "tism_scan.storage"]


@pytest.mark.parametrize("module", LIGHT)
def test_importing_a_light_package_loads_no_large_library(module):
    code = f"import sys, {module}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()).isdisjoint({"ray", "torch", "zarr", "matplotlib", "obstore", "pyfaidx"})


@pytest.mark.parametrize(
    "command",
    [
        *("run", "plan", "bench", "attribute", "audit", "verify", "refine", "export", "status", "annotate"),
        *("calibrate", "variants"),
    ],
)
def test_help_loads_no_large_library(command):
    code = f"import sys, tism_scan.cli.{command}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()).isdisjoint({"ray", "torch", "zarr", "matplotlib", "obstore", "pyfaidx"})


def test_engines_need_torch_and_numpy_alone():
    # Machines with a GPU often have torch and little else.
    script = """
import sys
for name in ("ray", "zarr", "pyfaidx", "pyBigWig", "click", "rich", "obstore", "matplotlib", "tangermeme"):
    sys.modules[name] = None
import torch
from tism_scan import attribution
from tism_scan.models.beluga import Beluga
from tism_scan.engine.bench import bench
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track
model = Beluga((8,) * 6, 8, 5)
scoring = Scoring((Track("a", (0,), (1.0,)),), 2000, 256)
assert bench(model, scoring, seconds=0.01, device="cpu").engine == "TrunkEngine"
X = torch.eye(4)[torch.randint(4, (1, 2000))].transpose(1, 2)
assert attribution.mean_tism(model, X, [0]).shape == (1, 1, 2000)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0


def test_the_engines_benchmark_needs_torch_and_numpy_alone():
    source = (Path(__file__).parent / "benchmarks" / "engine.py").read_text()
    libraries = {found.imported.partition(".")[0] for found in imports_of(source, "benchmark")}
    assert libraries - set(sys.stdlib_module_names) == {"numpy", "torch", PACKAGE}


def test_files_of_tests_that_are_begun_first_are_there(request):
    tests = Path(__file__).parent
    (conftest,) = (
        plugin for plugin in request.config.pluginmanager.get_plugins() if hasattr(plugin, "BEGUN_FIRST")
    )
    for name in conftest.BEGUN_FIRST:
        assert (tests / f"{name.removeprefix('tests/')}.py").is_file(), name
