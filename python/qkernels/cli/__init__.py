# SPDX-License-Identifier: Apache-2.0
"""The command `qkernels`: one module a subcommand, each with `add_arguments` and `run`.

Results go to stdout, progress and errors to stderr. Exit codes: 0 done; 1 done, but the result
breaks a promise; 2 a bad argument, or something that could not be read, written or run.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from qkernels import _core
from qkernels.cli import bench, demo, info, selftest
from qkernels.errors import QKernelsError

_COMMANDS = {"info": info, "demo": demo, "bench": bench, "selftest": selftest}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: that of the process); returns the exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        code: int = _COMMANDS[arguments.command].run(arguments)
        sys.stdout.flush()
        return code
    except (QKernelsError, OSError, ImportError) as error:
        if isinstance(error, BrokenPipeError):
            # The reader has gone (`qkernels info | head`): nothing is left to say to it, and the
            # interpreter must not try again when it flushes stdout at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        print(f"qkernels {arguments.command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"qkernels {arguments.command}: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qkernels",
        description="Exact int8 inference kernels: what this machine runs, and what it gives.",
        epilog="`qkernels COMMAND --help` explains a command. Exit codes: 0 done; 1 done, but the "
        "result breaks a promise; 2 a bad argument or a failure.",
    )
    parser.add_argument("--version", action="version", version=f"qkernels {_core.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    return parser
