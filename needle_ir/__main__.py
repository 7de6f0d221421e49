"""`python -m needle_ir` is the command-line tool `needle-ir`."""

import sys

from needle_ir.cli import main

if __name__ == "__main__":
    sys.exit(main())
