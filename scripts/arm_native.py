# SPDX-License-Identifier: Apache-2.0
"""The native tests, built for aarch64, on emulated Arm CPUs of four generations.

    python scripts/arm_native.py build/arm/tests/cpp/qkernels_tests

Each CPU must have exactly the tiers that it has in silicon: an instruction of a tier beyond them
would be an illegal one there. Fails as well when a kernel was executed on none of the CPUs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

# Model of qemu-user: the tiers that its CPU has.
CPUS = {
    "cortex-a53": "scalar neon",  # Raspberry Pi 3
    "cortex-a72": "scalar neon",  # Raspberry Pi 4
    "cortex-a76": "scalar neon neon_dotprod",  # Raspberry Pi 5
    "max": "scalar neon neon_dotprod neon_i8mm",
}
EMULATOR = "qemu-aarch64-static"
SYSROOT = "/usr/aarch64-linux-gnu"  # of Debian's cross compiler


def listed(title: str, output: str) -> set[str]:
    """Names after `title:` in the output of the test binary."""
    found = re.search(rf"\b{title}:(.*)$", output, re.MULTILINE)
    if found is None:
        sys.exit(f"the test binary printed no line '{title}: ...'")
    return set(found[1].split()) - {"none"}


def main() -> int:
    (binary,) = sys.argv[1:]
    known: set[str] = set()
    executed: set[str] = set()
    wrong: list[str] = []
    for cpu, tiers in CPUS.items():
        done = subprocess.run(
            [EMULATOR, "-cpu", cpu, "-L", SYSROOT, binary],
            env={**os.environ, "QKERNELS_EXPECT_TIERS": tiers.replace(" ", ",")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            sys.stdout.write(done.stdout)
            wrong.append(f"{cpu}: exit code {done.returncode}")
            continue
        cases = re.search(r"^\d+ cases", done.stdout, re.MULTILINE)
        ran = listed("kernels executed", done.stdout)
        exercised = listed("tiers", done.stdout)
        if exercised != set(tiers.split()):
            wrong.append(f"{cpu}: has tiers {' '.join(sorted(exercised))}, expected {tiers}")
        known |= ran | listed("kernels not executed", done.stdout)
        executed |= ran
        sys.stdout.write(
            f"{cpu}: {cases[0] if cases else '0 cases'} passed, {len(ran)} kernels executed; "
            f"tiers exercised: {tiers}\n"
        )
    idle = sorted(known - executed)
    if idle:
        wrong.append(f"executed on none of these CPUs: {', '.join(idle)}")
    sys.stdout.write("".join(f"{line}\n" for line in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
