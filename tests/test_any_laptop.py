"""The package works on systems that lack what Linux has, and leaves JAX as it was told."""

import os
import subprocess
import sys

TAKE_AWAY = """
import os, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "fcntl":
            raise ImportError("no fcntl on this system")
sys.meta_path.insert(0, Missing())
for name in ("fcntl", "portalocker"):
    sys.modules.pop(name, None)
if hasattr(os, "sched_getaffinity"):
    del os.sched_getaffinity
"""
STUDY = """
import ih_jax as ih
study = ih.sweep(ih.fewshot(evaluation_sequences=8), init=range(2), sequences=320)
study.train(sys.argv[1], progress=False)
study.train(sys.argv[1], progress=False, resume=True)
t = ih.load(sys.argv[1])
assert t.results["loss"].notnull().all()
"""


def run(script, *arguments, **environment):
    environment = {**os.environ, **environment}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_study_trains_resumes_and_loads_without_fcntl_and_affinity(tmp_path):
    done = run(TAKE_AWAY + STUDY, str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr


def test_importing_sets_the_devices_only_where_that_is_not_switched_off():
    script = "import jax, ih_jax; print(jax.config.values['jax_num_cpu_devices'])"
    unset = {"JAX_NUM_CPU_DEVICES": "-1"}
    assert int(run(script, IH_JAX_CONFIGURE_JAX="0", **unset).stdout) < 1
    assert int(run(script, IH_JAX_CONFIGURE_JAX="1", **unset).stdout) >= 1


def test_importing_leaves_jax_that_has_started_and_loggers_alone():
    script = (
        "import jax, logging; before = jax.devices(); "
        "filters = list(logging.getLogger('absl').filters); import ih_jax; "
        "assert jax.devices() == before; "
        "assert logging.getLogger('absl').filters == filters"
    )
    done = run(script)
    assert done.returncode == 0, done.stderr


def test_a_study_uses_every_core_where_jax_has_started(tmp_path):
    """With the one CPU device that JAX then has; and gives the bits of one device a core."""
    started = "import jax; assert len(jax.devices()) == 1\n"
    train = (
        "import sys, jax, ih_jax as ih\n"
        "from ih_jax.sweeps.programs import cores, workers\n"
        "assert len(workers()) == cores() // len(jax.devices()) * len(jax.devices())\n"
        "study = ih.sweep(ih.fewshot(evaluation_sequences=8), init=range(3), sequences=320)\n"
        "loss = study.train(sys.argv[1], progress=False, width=1).results['loss'].values\n"
        "print(loss.tobytes().hex())"
    )
    first, after = (
        run(before + train, str(tmp_path / name), JAX_NUM_CPU_DEVICES="-1")
        for name, before in (("first", ""), ("after", started))
    )
    assert after.returncode == 0, after.stderr
    assert first.stdout == after.stdout
