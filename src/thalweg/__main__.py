"""`python -m thalweg` and the script `thalweg` are the command line."""

import sys


def run() -> None:
    """Run the command line; Ctrl-C ends it quietly from the start, while its modules are still being loaded."""
    try:
        from thalweg.cli.main import run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()
