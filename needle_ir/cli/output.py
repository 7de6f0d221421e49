"""Text on stdout, which may be a pipe that is closed early."""

import os
import sys


def print_plain(text: str) -> None:
    """Print `text`. A reader that has enough, as `| head` has, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # What is left must not be flushed at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
