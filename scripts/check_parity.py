"""Compare this package with golden numbers of the papers' own implementation.

    python scripts/check_parity.py tests/model/golden/parity.npz

Prints each variant's largest absolute error per quantity. Exit code 1 where one is past the
tolerance, 2 where the file cannot be read. `ih_jax.interop.icl_dynamics.golden.parity` says what
the file holds.
"""

import argparse
import sys
import zipfile

from ih_jax.interop.icl_dynamics.golden import parity

QUANTITIES = ("logits", "pattern", "loss", "gradient")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="an .npz of golden numbers")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="absolute (default 1e-5)")
    arguments = parser.parse_args()
    failed = checked = 0
    try:
        print(f"{'variant':44}" + "".join(f"{quantity:>12}" for quantity in QUANTITIES))
        for group, variant, errors in parity(arguments.file):
            bad = any(not error <= arguments.tolerance for error in errors.values())
            failed, checked = failed + bad, checked + 1
            shown = "".join(f"{errors.get(q, float('nan')):12.1e}" for q in QUANTITIES)
            print(f"{group + '/' + variant:44}{shown}{'  FAILS' if bad else ''}", flush=True)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        print(f"{arguments.file} is not a file of golden numbers: {error}", file=sys.stderr)
        return 2
    print(f"{checked - failed} of {checked} variants agree to {arguments.tolerance:g}")
    return 1 if failed or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
