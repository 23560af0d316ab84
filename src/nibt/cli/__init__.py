"""The command ``nibt``: one file a command. This is the only folder that knows typer and rich."""

from nibt.cli.main import main as main
