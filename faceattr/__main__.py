"""The `faceattr` command, also as `python -m faceattr`."""

import sys

import faceattr.interrupt  # noqa: F401 - first, so that Ctrl-C ends the imports below in one line
from faceattr.cli import main

if __name__ == "__main__":
    sys.exit(main())
