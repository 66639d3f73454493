# SPDX-License-Identifier: Apache-2.0
"""`qkernels bench`: how fast int8 is on this machine, beside what else is installed."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qkernels.cli import console, parse
from qkernels.errors import QKernelsValueError

SUMMARY = "how fast int8 is here, how close to the limit, and beside other libraries"
DESCRIPTION = """\
Measure this machine's limits (dot products of each tier, memory bandwidth of each level), then time
qkernels and whatever else is installed on the same work: NumPy's float32 always, oneDNN, OpenVINO,
ONNX Runtime, LiteRT, torch and others when they are there. Each library runs in a process of its
own while the others are stopped, in turns; every answer is checked first, and one that is wrong is
marked and wins nothing. The table gives the time, the share of the limit and what binds, and the
ratio of a peer's time to that of qkernels with its interval: above 1 qkernels is faster.

Keep a run with --json; everything else can be drawn from that file later:

  qkernels bench --quick                        a first look, under a minute
  qkernels bench --json now.json --html now.html
  qkernels bench --suite gemv --threads 1,4 --isa avx2
  qkernels bench --suite gemm --shapes "64,768,768;1,768,3072" --peers none
  qkernels bench --from now.json --plot now.png
  qkernels bench --compare before.json after.json
  qkernels bench --why 8,768,3072               why int8 is no faster than it is

Exit codes: 0 done; 1 an answer of qkernels was wrong, or --compare found a regression; 2 a bad
argument or a failure; 130 interrupted (what was measured is shown and kept).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from qkernels.bench.peers import ADAPTERS
    from qkernels.bench.suites import DEFAULT, SUITES

    others = [name for name in ADAPTERS if name != "qkernels"]
    modes = parser.add_argument_group("instead of measuring").add_mutually_exclusive_group()
    modes.add_argument(
        "--compare",
        nargs=2,
        type=Path,
        metavar=("BEFORE", "AFTER"),
        help="what became faster or slower between two kept runs",
    )
    modes.add_argument(
        "--from", dest="source", type=Path, metavar="PATH", help="show a kept run again"
    )
    modes.add_argument(
        "--why",
        metavar="M,K,N",
        help="where the time of a linear layer (or of a saved model, by its path) goes, beside "
        "float32",
    )
    what = parser.add_argument_group("what to measure")
    suites = "; ".join(f"{name}: {module.ABOUT}" for name, module in SUITES.items())
    what.add_argument(
        "--suite",
        type=parse.names,
        metavar="NAME,...",
        help=f"{suites} (default: {','.join(DEFAULT)})",
    )
    what.add_argument(
        "--isa",
        type=parse.names,
        metavar="NAME,...",
        help="tiers of qkernels, as `qkernels info` lists them; peers are capped to the same where "
        "they can be (default: the active one, peers as they are)",
    )
    what.add_argument(
        "--threads",
        type=parse.counts,
        metavar="N,...",
        help="threads a call may use (default: 1 and all CPUs)",
    )
    what.add_argument(
        "--peers",
        type=parse.names,
        metavar="NAME,...",
        help=f"auto: what is installed (default); none; or among {', '.join(others)}",
    )
    what.add_argument(
        "--shapes",
        type=parse.shapes,
        metavar="M,K,N;...",
        help="matrix products instead of those of the suites: M rows, K deep, N columns",
    )
    what.add_argument("--quick", action="store_true", help="fewer cases, less time for each")
    what.add_argument(
        "--seconds",
        type=parse.positive,
        metavar="S",
        help="for each contender of a case (default: 1, quick 0.25)",
    )
    output = parser.add_argument_group("what to write")
    output.add_argument("--json", type=Path, metavar="PATH", help="the document of the run")
    output.add_argument(
        "--plot", type=Path, metavar="PATH", help="rooflines and ratios (matplotlib; png, svg, pdf)"
    )
    output.add_argument("--html", type=Path, metavar="PATH", help="a report in one file")
    parser.add_argument(
        "--threshold",
        type=parse.positive,
        metavar="X",
        help="with --compare: the relative change that counts (default: 0.1)",
    )


_MEASURE = ("suite", "isa", "threads", "peers", "shapes", "seconds")


def run(arguments: argparse.Namespace) -> int:
    parse.check_folders((arguments.json, arguments.plot, arguments.html))
    if arguments.compare is not None:
        _refuse(arguments, "--compare", *_MEASURE, "quick", "plot", "html")
        return _compare(arguments)
    if arguments.threshold is not None:
        raise QKernelsValueError("--threshold goes with --compare")
    if arguments.why is not None:
        _refuse(arguments, "--why", "suite", "peers", "shapes", "seconds", "json", "plot", "html")
        return _why(arguments)
    if arguments.plot is not None and find_spec("matplotlib") is None:
        raise ImportError(
            "--plot needs matplotlib: pip install 'qkernels[plot]' (plots of plain text, and "
            "those of --html, do without it)"
        )
    if arguments.source is not None:
        _refuse(arguments, "--from", *_MEASURE, "quick")
        from qkernels.bench import results

        document = results.read(arguments.source)
    else:
        document = _measure(arguments)
    return _show(document, arguments)


def _refuse(arguments: argparse.Namespace, mode: str, *names: str) -> None:
    """An option that would be ignored is an error."""
    for name in names:
        if getattr(arguments, name):
            raise QKernelsValueError(f"--{name} does not go with {mode}")


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    from qkernels.bench import run_bench

    peers: str | list[str] = arguments.peers or "auto"
    if peers in (["auto"], ["none"]):
        (peers,) = peers
    with console.steps() as progress:
        return run_bench(
            arguments.suite,
            isas=arguments.isa,
            threads=arguments.threads,
            peers=peers,
            shapes=arguments.shapes,
            quick=arguments.quick,
            seconds=arguments.seconds,
            progress=progress,
        )


def _show(document: dict[str, Any], arguments: argparse.Namespace) -> int:
    """Files first, so that nothing is lost when the terminal goes away."""
    from qkernels.bench import plots, report, results, table, text_plot

    written = []
    if arguments.json is not None:
        results.write(document, arguments.json)
        written.append(arguments.json)
    if arguments.plot is not None:
        plots.draw(document, arguments.plot)
        written.append(arguments.plot)
    if arguments.html is not None:
        report.write(document, arguments.html)
        written.append(arguments.html)
    table.show(document)
    if arguments.plot is None:
        for drawn in (text_plot.roofline(document), text_plot.ratios(document)):
            if drawn:
                print(f"\n{drawn}")
    for path in written:
        print(f"\nwritten: {path}" if path is written[0] else f"written: {path}")
    if document["settings"].get("interrupted"):
        print("qkernels bench: interrupted", file=sys.stderr)
        return 130
    wrong = any(
        row["library"] == results.OURS and row["status"] in ("wrong", "failed")
        for row in document["rows"]
    )
    return 1 if wrong else 0


def _compare(arguments: argparse.Namespace) -> int:
    from qkernels.bench import compare, results

    before, after = map(results.read, arguments.compare)
    threshold = compare.THRESHOLD if arguments.threshold is None else arguments.threshold
    comparison = compare.compare(before, after, threshold)
    if arguments.json is not None:
        console.write_json(comparison.to_json(), arguments.json)
    print(compare.render(comparison))
    return 1 if comparison.regressions else 0


def _why(arguments: argparse.Namespace) -> int:
    from qkernels import machine
    from qkernels.bench.explain import explain_linear
    from qkernels.bench.explain_model import explain_model

    for isa in arguments.isa or [machine.isa()]:
        for threads in arguments.threads or [machine.get_num_threads()]:
            with machine.use_isa(isa):
                if Path(arguments.why).exists():
                    found = str(
                        explain_model(arguments.why, threads=threads, quick=arguments.quick)
                    )
                else:
                    m, k, n = _shape_of(arguments.why)
                    found = str(explain_linear(m, k, n, threads=threads, quick=arguments.quick))
            print(found, end="\n\n")
    return 0


def _shape_of(text: str) -> tuple[int, int, int]:
    try:
        return parse.shape(text)
    except argparse.ArgumentTypeError as error:
        raise QKernelsValueError(
            f"--why must be the path of a saved model or M,K,N; {text!r} is no file and {error}"
        ) from None
