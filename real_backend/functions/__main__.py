"""``python -m real_backend.functions``: list the shipped functions, make their weights, run one here."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from real_backend.functions.catalogue import RANDOM_WEIGHTS
from real_backend.functions.protocol import FunctionError, load_functions
from real_backend.functions.weights import make_weights, weights_folder


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; 2 and one line for a mistake in it."""
    parser = argparse.ArgumentParser(prog="python -m real_backend.functions", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="print the functions and what they need")
    making = commands.add_parser("make", help="write files of random weights")
    making.add_argument("names", nargs="*", metavar="NAME", help=f"all by default: {', '.join(RANDOM_WEIGHTS)}")
    making.add_argument("--out", type=Path, default=weights_folder(), help="TYCHE_WEIGHTS by default (%(default)s)")
    running = commands.add_parser("run", help="load one function in this process and print an answer")
    running.add_argument("name", metavar="NAME")
    running.add_argument("payload", nargs="?", default="{}", metavar="JSON")
    for command in (listing, running):
        command.add_argument("--functions", default="real_backend.functions.catalogue", metavar="MODULE_OR_FILE")
    options = parser.parse_args(arguments)
    try:
        if options.command == "make":
            return _make(options.names or list(RANDOM_WEIGHTS), options.out)
        functions = load_functions(options.functions)
        if options.command == "list":
            for name, function in functions.items():
                needs = function.resources
                print(f"{name:<18} {function.library:<19} {needs.hold_mb:>5} MB held {needs.peak_mb:>5} MB peak")
            return 0
        if options.name not in functions:
            raise FunctionError(f"{options.name}: no such function; there are {', '.join(functions)}")
        function = functions[options.name]
        function.libraries()
        print(json.dumps(function.infer(function.load(), json.loads(options.payload))))
    except (ValueError, OSError, ImportError) as error:
        print(f"python -m real_backend.functions: {error}", file=sys.stderr)
        return 2
    return 0


def _make(names: list[str], folder: Path) -> int:
    for name in names:
        if name not in RANDOM_WEIGHTS:
            raise FunctionError(f"{name}: has no random weights; they are for {', '.join(RANDOM_WEIGHTS)}")
    for name in names:
        for path in make_weights(name, folder):
            print(f"{path} {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
