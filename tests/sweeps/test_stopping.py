"""Ctrl-C, and SIGTERM where a program asks for it: what trains is saved, then the program ends."""

import os
import signal
import sys
import threading
import time

import pytest

import ih_jax as ih
from ih_jax.cli import main as program
from ih_jax.sweeps import stopping

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has no such signals")


@pytest.fixture
def asked():
    """SIGTERM as the command line has it."""
    before = signal.getsignal(signal.SIGTERM)
    stopping.obey_sigterm()
    yield
    signal.signal(signal.SIGTERM, before)


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # Python handles it between two of its instructions


def stopped_by(folder, *numbers):
    """How many of these signals were answered before the block went on."""
    answered = []
    with stopping.stop_on_interrupt(threading.Event(), folder):
        for number in numbers:
            send(number)
            answered.append(number)
    return answered


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_trains_is_saved_before_the_program_ends(asked, tmp_path, number, code):
    with pytest.raises(ih.Interrupted, match="continue with --resume") as raised:
        stopped_by(tmp_path, number)
    assert raised.value.code == code
    assert stopped_by(tmp_path) == []  # and the next block begins anew


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(asked, tmp_path, number):
    with pytest.raises(KeyboardInterrupt):
        stopped_by(tmp_path, number, number)


def test_a_folder_with_nothing_in_it_yet_goes_and_the_code_says_which_signal(
    asked, tmp_path, monkeypatch, capsys
):
    def stop_while_it_is_prepared(*arguments, **settings):
        assert (tmp_path / "out").is_dir()
        send(signal.SIGTERM)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(program.run.running.folders, "say_begun", stop_while_it_is_prepared)
    assert program.main(["run", "fig5a", "--quiet", "--out", "out"]) == 143
    assert capsys.readouterr().err == "ih-jax: stopped by SIGTERM\n"
    assert not list(tmp_path.iterdir())
