"""`python -m thalweg` and the script `thalweg` are the command line."""

import signal
import sys


def run() -> None:
    """Run the command line; Ctrl-C ends it without a traceback while its modules are loaded, and while it ends."""
    try:
        from thalweg.cli.main import run

        run()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    run()
