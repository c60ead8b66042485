"""Command ``delira-nca init``, which writes a commented config of a run."""

from __future__ import annotations

import argparse
import shlex

from delira_nca.cli.parser import Commands, add_command, argument, given
from delira_nca.io.paths import shown

__all__ = ["add_init"]


def add_init(commands: Commands) -> None:
    """Add the command."""
    add_command(
        commands,
        "init",
        "write a commented config of a run",
        _init,
        argument("kind", metavar="KIND", help="growing, classification, segmentation or texture"),
        argument("--out", metavar="FILE", help="YAML file to write (default: KIND.yaml)"),
    )


def _init(arguments: argparse.Namespace) -> None:
    """Write a commented config of a run, which 'delira-nca train' trains. An existing file is not replaced."""
    from delira_nca.experiment import write_template

    path = shown(write_template(**given(arguments)))
    print(path)
    print(f"next: delira-nca train {shlex.quote(path)}")
