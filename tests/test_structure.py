"""Data flows one way: a file imports only from files upstream of it."""

import ast
from pathlib import Path

import ih_jax

ROOT = Path(ih_jax.__file__).parent
# From upstream to downstream; a file may import from those before it.
FLOW = [
    "errors",
    "data.fewshot",
    "data.tokens",
    "data.language",
    "data.behaviours",
    "data.corpora",
    "data.tokenizing",
    "data.text",
    "data.glyphs",
    "data.features",
    "data.images",
    "data.contact",
    "data.encoders",
    "data.omniglot",
    "model",
    "holds",
    "activations",
    "rules",
    "parts",
    "lowering",
    "recipes",
    "clamp",
    "attention",
    "forward",
    "tasks.base",
    "tasks.fewshot",
    "tasks.language",
    "train",
    "per_seed",
    "study",
    "store",
    "trajectory",
    "blocks",
    "sharing",
    "programs",
    "writer",
    "cards",
    "progress",
    "engine",
    "measure.learning",
    "measure.probes",
    "measure.context",
    "measure.removal",
    "measure.heads",
    "measure.performance",
    "measure.circuits",
    "measure.saddle",
    "claims",
    "toy",
    "estimate",
    "experiments",
    "report",
    "pretrained_network",
    "pretrained",
    "head_scores",
    "head_report",
    "running",
    "timing",
    "bench",
    "bench_report",
    "compat",
    "authors_runs",
    "export",
    "cli_options",
    "cli",
]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ih_jax"):
            base = (node.module or "").removeprefix("ih_jax").strip(".")
            for alias in node.names:
                name = f"{base}.{alias.name}".strip(".")
                path = ROOT / Path(*name.split("."))
                is_file = path.with_suffix(".py").exists() or (path / "__init__.py").exists()
                found.add(name if is_file else base)
        if isinstance(node, ast.Import):
            found |= {
                a.name.removeprefix("ih_jax").strip(".")
                for a in node.names
                if a.name.split(".")[0] == "ih_jax"
            }
    return found


def place(module: str) -> int:
    if module.startswith("experiments."):
        module = "experiments"
    return FLOW.index(module)


def test_every_file_imports_only_from_upstream():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        module = module_of(path)
        if module in ("", "data", "measure", "tasks"):
            continue  # the public names, and empty ones
        for imported in imports_of(path):
            if imported in ("", "data", "measure", "tasks"):
                # Experiments are written on the public names, as a user's study is.
                if not module.startswith("experiments."):
                    wrong.append(f"{module} imports all of ih_jax")
            elif place(imported) > place(module) or imported == module:
                wrong.append(f"{module} imports {imported}, which is downstream of it")
    assert not wrong, "\n".join(wrong)


def test_nothing_in_the_package_pickles_or_names_a_file_of_ours():
    for path in ROOT.rglob("*.py"):
        text = path.read_text()
        for used in ("import pickle", "pickle.", "allow_pickle=True", "dill", "joblib"):
            assert used not in text.replace("No pickle.", ""), (path, used)
        assert text.count("read_array(") == text.count("allow_pickle=False"), path
        assert "../shared" not in text, path
