"""`python -m qcore`: the same as the command `qcore`."""

import sys

from qcore.cli import main

if __name__ == "__main__":
    sys.exit(main())
