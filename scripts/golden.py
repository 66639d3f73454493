# SPDX-License-Identifier: Apache-2.0
"""Prints the hashes of the golden cases as JSON; `--write` keeps them in the package instead.

They change only when the numerics do: docs/numerics.md.
"""

from __future__ import annotations

import json
import sys

from qkernels.selftest import golden


def main() -> None:
    text = json.dumps(golden.hashes(), indent=2) + "\n"
    if "--write" in sys.argv[1:]:
        golden.FILE.write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
