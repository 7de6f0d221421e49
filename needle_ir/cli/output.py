"""What a command prints."""

import os
import sys


def print_plain(text: str) -> None:
    """Print `text` to stdout, until whoever reads it has enough."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # `| head` has read enough. What is left must not be flushed at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
