"""``python -m nibt`` and the script ``nibt``, which run the command."""

import sys


def main() -> None:
    """Run the command; its imports take a while, and may be interrupted, too."""
    try:
        from nibt.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
