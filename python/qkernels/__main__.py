# SPDX-License-Identifier: Apache-2.0
"""`python -m qkernels` is the command `qkernels`."""

import sys

from qkernels.cli import main

if __name__ == "__main__":
    sys.exit(main())
