"""`python -m scaling` is the `scaling` command."""

import sys

from scaling.cli import main

if __name__ == "__main__":
    sys.exit(main())
