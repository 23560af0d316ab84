"""The command ``nibt``, with one file per subcommand. Only this folder imports typer and rich."""

from nibt.cli.main import main as main
