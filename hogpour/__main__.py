"""``python -m hogpour``: the command line."""

import sys

from hogpour.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
