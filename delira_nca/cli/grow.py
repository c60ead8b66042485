"""``delira-nca grow``: a picture from one cell."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from delira_nca.cli.parser import Commands
from delira_nca.io.paths import shown

if TYPE_CHECKING:
    from delira_nca.experiment import GrowResult

__all__ = ["add_grow", "report"]


def add_grow(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "grow",
        help="grow a picture from one cell",
        description="Train an automaton to grow a picture from one cell. It leaves a page in which the picture lives, "
        "a film, curves and checkpoints. What is not given is as the quality has it.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,  # only what is given reaches the config, which has the defaults
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--target", metavar="NAME", help="a drawing, such as lizard or fish, or a picture with transparency"
    )
    what.add_argument("--emoji", metavar="CHARACTER", help="emoji, from a colour-emoji font of the system")
    parser.add_argument("--quality", metavar="NAME", help="draft, good (the default) or fine")
    parser.add_argument("--size", type=int, help="cells along the longer side of the picture")
    parser.add_argument("--padding", type=int, help="empty cells on each side of it")
    parser.add_argument("--steps", type=int, nargs=2, metavar=("LOW", "HIGH"), help="steps of a roll-out in training")
    parser.add_argument(
        "--fire-rate", type=float, help="probability that a cell takes its update in a step (default: 1)"
    )
    parser.add_argument("--regime", help="growing, persistent or regenerating (the default)")
    parser.add_argument("--epochs", type=int, help="number of epochs")
    parser.add_argument("--iterations", type=int, help="iterations of an epoch")
    parser.add_argument("--batch-size", type=int, help="states in one iteration")
    parser.add_argument("--pool-size", type=int, help="states in the pool")
    parser.add_argument("--state-noise", type=float, help="noise on the states from the pool (default: 0.03)")
    parser.add_argument("--learning-rate", type=float, help="highest learning rate of Adam")
    parser.add_argument(
        "--save-seconds", type=float, help="seconds between two checkpoints (default: 30); the 2 newest are kept"
    )
    parser.add_argument("--out", metavar="DIR", help="folder of the run (default: runs/<name>, or the next free)")
    parser.add_argument("--seed", type=int, help="seed of all random numbers")
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--precision", help="of matrix products in training: float32, bfloat16 or auto")
    parser.set_defaults(run=_grow, options=sorted(parser._option_string_actions))


def _grow(arguments: argparse.Namespace) -> None:
    from delira_nca.experiment import GrowConfig, grow

    options = {name: value for name, value in vars(arguments).items() if name not in ("command", "run", "options")}
    report(grow(GrowConfig.of_quality(**options)))


def report(result: GrowResult) -> None:
    """Print the result of a run that grows a picture."""
    for steps, error in result.log10_errors.items():
        print(f"log10 of the mean squared error {steps} steps after the seed: {error:.2f}")
    for steps, error in result.log10_errors_healing.items():
        print(f"log10 of the mean squared error {steps} steps after one half was cut off: {error:.2f}")
    for name in ("live.html", "film.gif", "preview.png", "curves.png", "metrics.jsonl", "events", "checkpoints"):
        print(shown(result.folder / name))
