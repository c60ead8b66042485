"""The command line."""

from delira_nca.cli.command import main

__all__ = ["main"]
