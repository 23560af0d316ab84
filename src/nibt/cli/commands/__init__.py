"""The subcommands, each in the file of what it needs."""
