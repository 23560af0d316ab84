"""``python -m nibt``, which runs the command."""

from nibt.cli import main

if __name__ == "__main__":
    main()
