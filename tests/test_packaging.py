"""What is published beside the code: wheel, sdist, pinned versions, recipe, citation and notebook."""

import email.parser
import itertools
import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import jinja2
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from tism_scan.version import __version__

ROOT = Path(__file__).parents[1]
ASIDE = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = [extra for extra in PROJECT["optional-dependencies"] if extra != "test"]
# What conda calls by another name.
OF_CONDA = {"torch": "pytorch", "ray": "ray-core", "pybigwig": "pybigwig", "matplotlib": "matplotlib-base"}
NOT_ON_CONDA = {"memelite", "tangermeme"}


def requirements(*extras):
    """Return what the package needs, by name in lower case."""
    optional = (PROJECT["optional-dependencies"][each] for each in extras)
    lines = itertools.chain(PROJECT["dependencies"], *optional)
    return {requirement.name.lower(): requirement for requirement in map(Requirement, lines)}


PINNED = [
    Requirement(line)
    for line in (ASIDE / "requirements.lock").read_text().splitlines()
    if line.strip() and not line.lstrip().startswith("#")
]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_pinned_versions_are_what_the_package_asks_for(python, platform):
    machine = {"linux": "x86_64", "darwin": "arm64"}[platform]
    system = {"python_version": python, "python_full_version": f"{python}.1", "sys_platform": platform}
    system |= {"platform_machine": machine, "platform_system": platform.capitalize()}
    chosen = [pin for pin in PINNED if pin.marker is None or pin.marker.evaluate(system)]
    versions = {pin.name.lower(): str(pin.specifier).removeprefix("==") for pin in chosen}
    assert len(versions) == len(chosen)
    for name, requirement in requirements(*EXTRAS).items():
        assert requirement.specifier.contains(versions[name]), (name, versions[name])


def test_every_library_is_pinned_to_one_version():
    for pin in PINNED:
        assert [specifier.operator for specifier in pin.specifier] == ["=="], pin


@pytest.fixture(scope="module")
def recipe():
    template = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(
        (ASIDE / "bioconda/meta.yaml").read_text()
    )
    functions = {"PYTHON": "python", "pin_subpackage": lambda name, max_pin: f"{name} {max_pin}"}
    return yaml.safe_load(template.render(functions))


def test_recipe_asks_for_what_the_package_asks_for(recipe):
    given = {line.partition(" ")[0]: line.partition(" ")[2] for line in recipe["requirements"]["run"]}
    assert given.pop("python") == PROJECT["requires-python"]
    assert given.pop("grpcio") == ""  # what the extra of ray[client] brings
    assert sorted(given) == sorted(OF_CONDA.get(name, name) for name in requirements())
    for name, requirement in requirements().items():
        assert set(given[OF_CONDA.get(name, name)].split(",")) == set(str(requirement.specifier).split(","))
    optional = requirements(*EXTRAS).keys() - requirements().keys() - NOT_ON_CONDA
    constrained = {line.partition(" ")[0] for line in recipe["requirements"]["run_constrained"]}
    assert constrained == {OF_CONDA.get(name, name) for name in optional}


def test_recipe_is_of_this_release_and_has_its_command(recipe):
    assert recipe["package"] == {"name": PROJECT["name"], "version": __version__}
    assert recipe["build"]["entry_points"] == [
        f"{name} = {target}" for name, target in PROJECT["scripts"].items()
    ]
    assert recipe["build"]["noarch"] == "python"
    assert recipe["source"]["url"].endswith(f"/tism_scan-{__version__}.tar.gz")
    assert len(recipe["source"]["sha256"]) == 64
    assert (ROOT / recipe["about"]["license_file"]).is_file()


def test_citation_names_the_release_and_the_paper():
    citation = yaml.safe_load((ASIDE / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert str(citation["version"]) == __version__
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    assert f"doi.org/{paper['doi']}" in (ROOT / "README.md").read_text()
    assert [author["family-names"] for author in paper["authors"]] == ["Sasse", "Chikina", "Mostafavi"]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Return the sdist and the wheel that are made of it."""
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def files_below(folder):
    """Return the files of a folder of the checkout, as paths from its root."""
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


def test_wheel_holds_the_package_and_its_licence_and_nothing_else(archives):
    with zipfile.ZipFile(archives[1]) as wheel:
        names = set(wheel.namelist())
        info = f"tism_scan-{__version__}.dist-info"
        metadata = email.parser.Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert {name for name in names if not name.startswith(info)} == files_below("tism_scan")
    needed = {"py.typed", "demo/demo_beluga.pth", "browser/page/page.js", "browser/page/index.html"}
    assert {f"tism_scan/{name}" for name in needed} <= names
    assert f"{info}/licenses/LICENSE" in names
    assert Version(metadata["Version"]) == Version(__version__)
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert archives[1].stat().st_size < 2e6


def test_source_archive_has_what_tests_and_clusters_need_and_no_more(archives):
    with tarfile.open(archives[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    expected = files_below("tism_scan") | files_below("tests") | files_below("cluster")
    assert expected <= names
    others = {"README.md", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore"}
    assert names - expected <= others


@pytest.mark.slow
def test_installed_wheel_has_all_that_it_needs(archives, tmp_path, is_full_dose):
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(installed), str(archives[1])], check=True, timeout=120)
    environment = os.environ | {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}

    def run(*arguments):
        done = subprocess.run(
            arguments, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    place = run(sys.executable, "-c", "import tism_scan; print(tism_scan.__file__)")
    assert Path(place.strip()) == installed / "tism_scan/__init__.py"
    program = str(installed / "bin/tism-scan")
    weights = str(installed / "tism_scan/demo/demo_beluga.pth")
    locus = ["--sequence", "ACGTTGCA" * 20, "--weights", weights, "--tracks", "0", "--out", "locus.tsv"]
    assert "160 bases" in run(program, "attribute", *locus)
    if is_full_dose:  # the gate does this from another installation of a wheel
        assert "done in" in run(program, "demo", "--out", "demo")
        assert len(list((tmp_path / "demo/bigwig").glob("*.bw"))) == 7


RUN_NOTEBOOK = """
import json, sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=250, resources={"metadata": {"path": sys.argv[2]}}).execute()
print(json.dumps([[output.get("data", {}) for output in cell.get("outputs", [])] for cell in notebook.cells]))
"""


@pytest.mark.slow
def test_notebook_runs_from_the_first_cell_to_the_last(tmp_path):
    notebook = ASIDE / "examples/first_scan.ipynb"
    done = subprocess.run(
        [sys.executable, "-c", RUN_NOTEBOOK, str(notebook), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    shown = [data for cell in json.loads(done.stdout) for data in cell]
    assert sum("image/png" in data for data in shown) == 1  # the picture
    assert any("ScoreStore" in data.get("text/html", "") for data in shown)
    assert "TATAA" in shown[-1]["text/plain"]  # where the model of one's own finds its motif
    assert (tmp_path / "first-scan/bigwig/0000_CTCF.bw").is_file()


def test_notebook_holds_no_outputs():
    notebook = json.loads((ASIDE / "examples/first_scan.ipynb").read_text())
    assert all(cell.get("outputs", []) == [] for cell in notebook["cells"])
