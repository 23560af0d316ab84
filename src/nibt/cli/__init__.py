"""The command ``nibt``, with a file per subcommand, or per family. Only this folder imports typer and rich."""

from nibt.cli.main import main as main
