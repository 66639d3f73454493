# SPDX-License-Identifier: Apache-2.0
"""What llvm-mca's models of CPUs make of the inner loops of the Arm kernels: MACs a cycle.

    python scripts/inner_loops.py FOLDER [--objdump aarch64-linux-gnu-objdump] [--mca llvm-mca]

FOLDER is a build of the native tests. The loops are found in its object files as they are: in each
function the innermost loop with the most multiplications. The limit is the throughput of these
multiplications alone, were they independent. The models know no caches: every load hits.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ITERATIONS = 200
# Tier: features for the assembler, CPU models, and what these stand for. The Cortex-A76 of the Pi 5
# has no model of its own; the Neoverse N1 is its sibling. It takes neon's depthwise kernels.
TIERS = {
    "neon": ("", {"cortex-a53": "Pi 3", "cortex-a72": "Pi 4", "neoverse-n1": "Pi 5"}),
    "neon_dotprod": ("+dotprod", {"neoverse-n1": "Pi 5"}),
    "neon_i8mm": ("+dotprod,+i8mm", {"neoverse-v1": "Graviton 3"}),
}
# Products of one instruction, by what objdump prints.
PRODUCTS = (
    (re.compile(r"(s|u|us)mmla\s+v\d+\.4s"), 32),
    (re.compile(r"(s|u|us)dot\s+v\d+\.4s"), 16),
    (re.compile(r"[su]m(ull|lal)2?\s+v\d+\.8h"), 8),
    (re.compile(r"[su]m(ull|lal)2?\s+v\d+\.4s"), 4),
)
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\t(.*?)\s*$")
FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
BRANCH = re.compile(r"^(?P<jump>b\.\w+|cbn?z\s+\w+,|tbn?z\s+\w+, #\w+,)\s+(?P<to>[0-9a-f]+) <")


def products(instruction: str) -> int:
    return next((count for known, count in PRODUCTS if known.match(instruction)), 0)


@dataclass(frozen=True)
class Loop:
    """A loop of one function: its instructions, the branch back among them as `... loop`."""

    function: str
    instructions: tuple[str, ...]

    @property
    def macs(self) -> int:
        return sum(map(products, self.instructions))

    def multiplications(self) -> Loop:
        return Loop(self.function, tuple(i for i in self.instructions if products(i)))


def functions(objdump: str, path: Path) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """Name and (address, instruction) of each function of an object file."""
    listing = subprocess.run(
        [objdump, "--disassemble", "--demangle", "--no-show-raw-insn", str(path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    name, body = "", list[tuple[int, str]]()
    for line in listing.splitlines():
        if found := FUNCTION.match(line):
            yield name, body
            name, body = found[1], []
        elif found := INSTRUCTION.match(line):
            body.append((int(found[1], 16), re.sub(r"\s*(//|#\s).*", "", found[2])))
    yield name, body


def hottest_loop(name: str, body: list[tuple[int, str]]) -> Loop | None:
    """The innermost loop with the most products."""
    index = {address: i for i, (address, _) in enumerate(body)}
    spans = []
    for i, (_, text) in enumerate(body):
        found = BRANCH.match(text)
        if found and index.get(int(found["to"], 16), i + 1) <= i:
            spans.append((index[int(found["to"], 16)], i, found["jump"]))
    loops = [
        Loop(name, (*(text for _, text in body[first:last]), f"{jump} loop"))
        for first, last, jump in spans
        if not any(first <= a and b < last for a, b, _ in spans if (a, b) != (first, last))
    ]
    return max((loop for loop in loops if loop.macs), key=lambda loop: loop.macs, default=None)


def analysis(loop: Loop, mca: str, features: str, cpu: str) -> dict[str, float]:
    """llvm-mca's summary of the loop."""
    text = "loop:\n" + "".join(f"{instruction}\n" for instruction in loop.instructions)
    done = subprocess.run(
        [
            *(mca, "-mtriple=aarch64", f"-mcpu={cpu}", f"-mattr={features}"),
            *(f"-iterations={ITERATIONS}", "-json"),
        ],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{mca} on {loop.function}: {done.stderr}")
    (region,) = json.loads(done.stdout)["CodeRegions"]
    summary: dict[str, float] = region["SummaryView"]
    return summary


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--objdump", default="aarch64-linux-gnu-objdump")
    parser.add_argument("--mca", default="llvm-mca")
    arguments = parser.parse_args()
    rows = []
    for tier, (features, cpus) in TIERS.items():
        folder = arguments.folder / f"CMakeFiles/qkernels_tier_{tier}.dir/csrc/kernels/{tier}"
        for path in sorted([*folder.glob("gemm.cc.o"), *folder.glob("depthwise.cc.o")]):
            for name, body in functions(arguments.objdump, path):
                loop = hottest_loop(name, body)
                if loop is None:
                    continue
                short = re.sub(r".*\(anonymous namespace\)::|\(.*|(?<=\d)u(?=[,>])", "", name)
                for cpu, stands_for in cpus.items():
                    model = (arguments.mca, features, cpu)
                    cycles = analysis(loop, *model)["TotalCycles"] / ITERATIONS
                    least = analysis(loop.multiplications(), *model)["BlockRThroughput"]
                    rate, limit = loop.macs / cycles, loop.macs / least
                    op = path.name.removesuffix(".cc.o")
                    rows.append(
                        f"| {tier} | {op} `{short}` | {cpu}, {stands_for} |"
                        f" {len(loop.instructions)} | {loop.macs} |"
                        f" {rate:.1f} | {limit:.1f} | {rate / limit:.0%} |\n"
                    )
    if not rows:
        sys.exit(f"{arguments.folder}: no object files of kernels with a known loop")
    sys.stdout.write(
        "| tier | loop | model | instructions | MACs | MACs a cycle | limit | share |\n"
        "|---|---|---|---|---|---|---|---|\n"
    )
    sys.stdout.writelines(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
