"""The wheel, installed outside the checkout, holds what it should and runs an experiment."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that must not see the checkout; gives its output."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=clean, text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    # Files that git knows, or would: what else lies in the checkout must not be needed.
    listed = run("git", "ls-files", "-co", "--exclude-standard", "ih_jax", cwd=ROOT).split()
    source = tmp_path_factory.mktemp("source")
    for name in [*listed, "pyproject.toml", "README.md", "LICENSE"]:
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    # Without isolation, setuptools is that of the test extra, and nothing is downloaded.
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", out, source]
    run(*build, cwd=source)
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of a fresh environment with the wheel, and the dependencies of this one."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder / "venv", with_pip=True)
    scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    # A plain path does not run the .pth files that lie there, so an editable ih_jax stays unseen.
    (Path(site.strip()) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return scripts


def test_the_wheel_holds_the_whole_package(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    source = {str(path.relative_to(ROOT)) for path in (ROOT / "ih_jax").rglob("*.py")}
    assert source <= names
    assert "ih_jax/py.typed" in names
    assert any(".dist-info/" in name and name.endswith("LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "docs", "results", "scripts"))]


def test_the_wheel_runs_an_experiment_outside_the_checkout(installed: Path, tmp_path: Path):
    command = "import ih_jax; print(ih_jax.__file__)"
    where = Path(run(installed / "python", "-c", command, cwd=tmp_path).strip())
    assert where.is_relative_to(installed.parent)
    out = tmp_path / "fig5b"
    options = ["--seeds", "1", "--scale", "0.002", "--out", str(out), "--quiet"]
    run(installed / "ih-jax", "run", "fig5b", *options, cwd=tmp_path)
    assert {"README.md", "figure.png", "results.nc", "card.json"} <= {p.name for p in out.iterdir()}
    assert "## Claims" in (out / "README.md").read_text()
