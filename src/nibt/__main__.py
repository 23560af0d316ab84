"""``python -m nibt`` and the script ``nibt``, which run the command."""

import signal
import sys

_INTERRUPTED = (130, 143)


def main() -> None:
    """Run the command; its imports take a while, and may be interrupted, too."""
    try:
        from nibt.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as end:
        if end.code in _INTERRUPTED:  # another signal must not change how the process ends
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise


if __name__ == "__main__":
    main()
