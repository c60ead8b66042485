"""``delira-nca grow``: a picture from one cell."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from delira_nca.cli.parser import Commands

if TYPE_CHECKING:
    from delira_nca.experiment import GrowResult

__all__ = ["add_grow", "report"]


def add_grow(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "grow",
        help="grow a picture from one cell",
        description="Train an automaton to grow a picture from one cell, and leave a film, curves and checkpoints.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--target", metavar="FILE", help="picture with transparency (default: scikit-learn's dahlia)")
    what.add_argument("--emoji", metavar="CHARACTER", help="an emoji, from a colour-emoji font of the system")
    parser.add_argument("--size", type=int, default=40, help="cells along the longer side of the picture")
    parser.add_argument("--padding", type=int, default=16, help="empty cells on each side of it")
    parser.add_argument(
        "--steps", type=int, nargs=2, default=(48, 64), metavar=("LOW", "HIGH"), help="steps of a roll-out in training"
    )
    parser.add_argument("--regime", default="regenerating", help="growing, persistent or regenerating")
    parser.add_argument("--epochs", type=int, default=115)
    parser.add_argument("--iterations", type=int, default=50, help="iterations of an epoch")
    parser.add_argument("--batch-size", type=int, default=3, help="states in one iteration")
    parser.add_argument("--pool-size", type=int, default=256, help="states in the pool")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="of Adam, at the beginning")
    parser.add_argument("--out", metavar="DIR", help="folder of the run (default: runs/<name>, or the next free)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--precision", default="float32", help="of matrix products in training: float32 or bfloat16")
    parser.set_defaults(run=_grow, options=sorted(parser._option_string_actions))


def _grow(arguments: argparse.Namespace) -> None:
    from delira_nca.experiment import GrowConfig, grow

    options = {k: v for k, v in vars(arguments).items() if k not in ("command", "run", "options")}
    report(grow(GrowConfig(**{**options, "steps": tuple(arguments.steps)})))


def report(result: GrowResult) -> None:
    """Print what became of a run that grows a picture."""
    for steps, error in result.log10_errors.items():
        print(f"log10 of the mean squared error {steps} steps after the seed: {error:.2f}")
    for steps, error in result.log10_errors_healing.items():
        print(f"log10 of the mean squared error {steps} steps after one half was cut off: {error:.2f}")
    films = ("growth.gif", "healing.gif") if result.log10_errors_healing else ("growth.gif",)
    for name in ("live.html", *films, "curves.png", "metrics.jsonl", "events", "checkpoints"):
        print(result.folder / name)
