"""Data flows one way: a file imports only from its own room and from the rooms above it."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import ih_jax

ROOT = Path(ih_jax.__file__).parent
# From upstream to downstream: folders of the package, and the files beside them.
ROOMS = [
    "errors",
    "paths",
    "memory",
    "gate",
    "array_files",
    "files",
    "platforms",
    "data",
    "model",
    "clamps",
    "tasks",
    "sweeps",
    "measures",
    "claims",
    "experiments",
    "reports",
    "interop",
    "bench",
    "cli",
]
# Rooms that no more than these may be seen from: each knows its line of work and nothing else.
SEES = {
    "model": {"errors", "platforms", "data"},
    "clamps": {"errors", "data", "model"},
    "claims": {"errors"},
}


def module_of(path: Path) -> str:
    """A file as "room.file"; the package's own __init__ is ""."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports_of(path: Path) -> set[str]:
    """The files of the package that a file imports, wherever in it; "" is the public names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ih_jax":
            base = (node.module or "").removeprefix("ih_jax").strip(".")
            for alias in node.names:
                name = f"{base}.{alias.name}".strip(".")
                there = ROOT / Path(*name.split("."))
                is_file = there.with_suffix(".py").exists() or (there / "__init__.py").exists()
                found.add(name if is_file else base)
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.split(".")[0] == "ih_jax"]
            found |= {name.removeprefix("ih_jax").strip(".") for name in names}
    return found


FILES = {module_of(path): imports_of(path) for path in sorted(ROOT.rglob("*.py"))}


def test_every_folder_of_the_package_is_a_room():
    assert {module.split(".")[0] for module in FILES} - {""} <= set(ROOMS)
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert len(folders) <= 12


def test_every_file_imports_only_from_its_room_and_those_above():
    wrong = []
    for module, imported in FILES.items():
        room = module.split(".")[0]
        for other in imported if room else ():
            seen = other.split(".")[0]
            if other == "":
                # Experiments are written on the public names, as a user's study is.
                if module.count(".") < 2 or room != "experiments":
                    wrong.append(f"{module} imports all of ih_jax")
            elif ROOMS.index(seen) > ROOMS.index(room):
                wrong.append(f"{module} imports {other}, which is downstream of it")
            elif seen != room and room in SEES and seen not in SEES[room]:
                wrong.append(f"{module} imports {other}: {room} sees {SEES[room]} only")
    assert not wrong, "\n".join(wrong)


def test_no_file_imports_itself_in_a_circle():
    graph = {module: imported - {""} for module, imported in FILES.items() if module}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_nothing_is_imported_by_name_where_that_could_hide_a_circle():
    asked_for = {"clamps.as_json", "data.registered"}  # a user's own, by the name on a card
    for path in ROOT.rglob("*.py"):
        if module_of(path) not in asked_for:
            assert "import_module" not in path.read_text(), path


def test_experiments_use_nothing_private():
    for path in (ROOT / "experiments").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ih_jax"):
                assert not [a.name for a in node.names if a.name.startswith("_")], path


def test_a_figure_reads_no_other_figure():
    of_papers = list((ROOT / "experiments").glob("*/*.py"))
    figures = {module_of(p) for p in of_papers if "experiment = " in p.read_text()}
    assert len(figures) > 30
    for figure in figures:
        assert not FILES[figure] & figures, figure


def test_nothing_in_the_package_pickles_or_names_a_file_of_ours():
    for path in ROOT.rglob("*.py"):
        text = path.read_text()
        for used in ("import pickle", "pickle.", "allow_pickle=True", "dill", "joblib"):
            assert used not in text.replace("No pickle.", ""), (path, used)
        assert text.count("read_array(") == text.count("allow_pickle=False"), path
        assert "../shared" not in text, path


def test_terminals_show_words_as_they_are():
    """Paths, and what users call their clamps and claims, may hold brackets and colons."""
    wrong = [
        path.name
        for path in sorted(ROOT.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "Console"
        and not {"markup", "emoji"} <= {keyword.arg for keyword in node.keywords}
    ]
    assert not wrong
