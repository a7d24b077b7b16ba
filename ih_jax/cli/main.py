"""The `ih-jax` command: train tiny transformers with clamps, and reproduce figures from them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

from ih_jax.cli import commands, data, failing, options, page, run, status
from ih_jax.cli.parsing import parse
from ih_jax.errors import UserError
from ih_jax.sweeps import stopping, store

CALLED: dict[type, Callable[[Any], None]] = {
    options.Run: run.run,
    options.List: run.show_experiments,
    options.Plot: run.plot,
    options.Bench: commands.measure_costs,
    options.Import: commands.import_run,
    options.Export: commands.export_network,
    options.Heads: commands.measure_heads,
    options.MakeFeatures: data.make_features,
    options.Data: data.show_data,
    options.Text: data.make_token_files,
    options.View: page.write_page,
    options.Status: status.show,
}


def main(arguments: list[str] | None = None) -> int:
    """Entry point.

    Exit codes: 0 done; 1 the machine failed (a full disk, memory); 2 the command or its data are
    wrong; 70 a fault of ours, with a report; 130 stopped by Ctrl-C, 143 by SIGTERM; 141 the program
    that read its output has closed the pipe.
    """
    try:
        if (sys.argv[1:] if arguments is None else arguments) == ["--version"]:
            print(f"ih-jax {metadata.version('ih_jax')}")
        else:
            command = parse(arguments, __doc__ or "")
            CALLED[type(command)](command)
        sys.stdout.flush()
    except SystemExit as left:
        if not left.code:  # after --help
            raise
        return 141  # as below: rich has met the closed pipe
    except BrokenPipeError:  # what reads our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # the code of a program ended by SIGPIPE
    except (UserError, store.Damaged) as error:
        return _said(str(error), 2)
    except (stopping.Interrupted, KeyboardInterrupt) as error:
        return _said(str(error) or "stopped", getattr(error, "code", 130))
    except Exception as error:
        return failing.end(error, _said)
    return 0


def _said(what: str, code: int) -> int:
    print(f"ih-jax: {' '.join(what.split())}", file=sys.stderr)
    return code


def program() -> int:
    """The `ih-jax` command: `main` in a process of its own."""
    store.silence_late_threads()
    stopping.obey_sigterm()
    code = main()
    if code == 1:
        # A save failed. Its threads would print tracebacks after our one line while Python exits.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # what stdout is written to may be what is full
                stream.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(program())
