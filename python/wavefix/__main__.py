# SPDX-License-Identifier: Apache-2.0
"""``python -m wavefix``: the command line without the installed script."""

import sys

from wavefix.cli import main

if __name__ == "__main__":
    sys.exit(main())
