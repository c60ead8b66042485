"""Command ``delira-nca grow``, which trains an automaton to grow a picture from one cell."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from delira_nca.cli.parser import Commands, add_command, argument, given
from delira_nca.io.paths import shown

if TYPE_CHECKING:
    from delira_nca.experiment import GrowResult

__all__ = ["add_grow", "report"]


def add_grow(commands: Commands) -> None:
    """Add the command."""
    add_command(
        commands,
        "grow",
        "grow a picture from one cell",
        _grow,
        [
            argument(
                "--target", metavar="NAME", help="a drawing, such as lizard or fish, or a picture with transparency"
            ),
            argument("--emoji", metavar="CHARACTER", help="emoji, from a colour-emoji font of the system"),
        ],
        argument("--quality", metavar="NAME", help="draft, good (the default) or fine"),
        argument("--size", type=int, help="number of cells along the longer side of the picture"),
        argument("--padding", type=int, help="number of empty cells on each side of the picture"),
        argument("--steps", type=int, nargs=2, metavar=("LOW", "HIGH"), help="number of steps of a training roll-out"),
        argument("--fire-rate", type=float, help="probability that a cell is updated in a step (default: 1)"),
        argument("--regime", help="growing, persistent or regenerating (the default)"),
        argument("--epochs", type=int, help="number of epochs"),
        argument("--iterations", type=int, help="number of iterations per epoch"),
        argument("--batch-size", type=int, help="number of states per iteration"),
        argument("--pool-size", type=int, help="number of states in the pool"),
        argument("--state-noise", type=float, help="noise on the states from the pool (default: 0.03)"),
        argument("--learning-rate", type=float, help="highest learning rate of Adam"),
        argument("--save-seconds", type=float, help="seconds between checkpoints (default: 30); the 2 newest are kept"),
        argument(
            "--out",
            metavar="DIR",
            help="folder of the run (default: the first free of runs/<name>, runs/<name>-2, ...)",
        ),
        argument("--seed", type=int, help="seed of all random numbers"),
        argument("--device", help="auto, cpu, cuda, cuda:1, ..."),
        argument("--precision", help="precision of matrix products in training: float32, bfloat16 or auto"),
    )


def _grow(arguments: argparse.Namespace) -> None:
    """Train an automaton to grow a picture from one cell.

    Write a live page, a film, curves and checkpoints. Options that are not given have the values of the quality.
    """
    from delira_nca.experiment import GrowConfig, grow

    report(grow(GrowConfig.of_quality(**given(arguments))))


def report(result: GrowResult) -> None:
    """Print the result of a run that grows a picture."""
    for steps, error in result.log10_errors.items():
        print(f"log10 of the mean squared error {steps} steps after the seed: {error:.2f}")
    for steps, error in result.log10_errors_healing.items():
        print(f"log10 of the mean squared error {steps} steps after one half was cut off: {error:.2f}")
    for name in ("live.html", "film.gif", "preview.png", "curves.png", "metrics.jsonl", "events", "checkpoints"):
        print(shown(result.folder / name))
