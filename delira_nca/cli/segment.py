"""Command ``delira-nca segment``, which plans, trains and judges the segmentation of a folder of images."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

from delira_nca.cli.parser import Commands, add_command, argument, given
from delira_nca.io.paths import shown

__all__ = ["add_segment", "predict_images"]


def add_segment(commands: Commands) -> None:
    """Add the command."""
    add_command(
        commands,
        "segment",
        "segment a folder of images",
        _segment,
        argument("images", metavar="IMAGES", help="folder of images, or of nnU-Net or Decathlon with a dataset.json"),
        argument("masks", metavar="MASKS", nargs="?", help="folder of masks with the names of the images"),
        argument("--out", metavar="DIR", help="folder of the run (default: the first free of runs/<name>, ...)"),
        argument("--minutes", type=float, help="approximate duration in minutes (default: 5)"),
        argument("--memory", type=float, metavar="GB", help="memory for the roll-outs of a training step (default: 4)"),
        argument("--epochs", type=int, help="number of epochs, instead of those that fit into the time"),
        argument("--iterations", type=int, help="number of iterations per epoch"),
        argument("--valid", type=float, help="fraction of the cases that are held out (default: 0.2)"),
        argument("--groups", metavar="FILE", help="CSV with the columns case and group, such as the patient"),
        argument("--mask-suffix", metavar="TEXT", help="end of the names of masks, such as _mask"),
        argument("--channel-axis", type=int, help="axis of the channels in .npy images"),
        argument("--binarise", type=float, metavar="VALUE", help="masks: values above it are the foreground"),
        argument("--instances", action="store_true", help="the masks number objects instead of classes"),
        argument("--folds", type=int, help="number of folds of a cross-validation, whose networks predict together"),
        argument("--stable", action="store_true", help="train with random numbers of steps, for longer roll-outs"),
        argument("--seed", type=int, help="seed of all random numbers"),
        argument("--device", help="auto, cpu, cuda, cuda:1, ..."),
    )


def _segment(arguments: argparse.Namespace) -> None:
    """Plan, train and judge the segmentation of a folder of images.

    All cases are read first; errors in them are reported together, before the training. Write a page that shows the
    progress while the run is under way, scores of the cases that were held out, and the plan with a reason for each
    choice.
    """
    from delira_nca.segmentation import segment
    from delira_nca.segmentation.segmenter import folds_in

    options = given(arguments)
    options["instances"] = options.pop("instances") or None
    options["stable"] = options.pop("stable", False)
    if "groups" in options:
        options["groups"] = _groups(Path(options["groups"]))
    result = segment(**options)
    folds = folds_in(result.folder)
    facts = json.loads(([*folds, result.folder][0] / "fingerprint.json").read_text(encoding="utf-8"))["facts"]
    print(f"{facts['cases']} cases; classes {facts['classes']}")
    if result.dice is not None:
        print(f"mean Dice of the held-out cases: {result.dice:.3f}")
    files = [folder / "report.html" for folder in folds] or [
        result.folder / name for name in ("report.html", "plan.yaml")
    ]
    files += [page for folder in folds or [result.folder] if (page := folder / "live.html").is_file()]
    for path in [*files, result.folder / "scores.csv", result.folder / "scores.json"]:
        print(shown(path))


def _groups(file: Path) -> dict[str, str]:
    from delira_nca.errors import ConfigError, MissingFileError

    if not file.is_file():
        raise MissingFileError(f"there is no file {str(file)!r} with groups")
    with file.open(newline="", encoding="utf-8-sig") as opened:
        first = opened.readline()
        opened.seek(0)
        rows = list(csv.DictReader(opened, delimiter=";" if ";" in first else ","))
    if not rows or not {"case", "group"} <= rows[0].keys():
        raise ConfigError(f"{str(file)!r} needs the columns case and group, not {list(rows[0]) if rows else []}")
    if incomplete := [row["case"] for row in rows if not row["case"] or not row["group"]]:
        raise ConfigError(f"{str(file)!r} has no group of the case {incomplete[0]!r}")
    groups = {row["case"]: row["group"] for row in rows}
    if several := [row["case"] for row in rows if groups[row["case"]] != row["group"]]:
        raise ConfigError(f"{str(file)!r} has two groups of the case {several[0]!r}")
    return groups


def predict_images(arguments: argparse.Namespace) -> None:
    """Predict the images of a folder with a run of ``segment``, and print a table of the cases."""
    from delira_nca.cli.parser import print_table
    from delira_nca.errors import ConfigError
    from delira_nca.segmentation import predict_folder

    options = given(arguments)
    run, images = options.pop("folder"), options.pop("images")
    if "out" not in options:
        raise ConfigError("give --out, the folder of the masks")
    if options.pop("part", None) is not None:
        raise ConfigError("--part chooses samples of the run: leave it out to predict other images")
    cases = predict_folder(run, images, **options, progress=True)
    rows = [("CASE", "DOUBT", "ALARM", "MASK")]
    for case in cases:
        told = shown(case.mask) if case.mask is not None else f"not predicted: {case.error}"
        rows.append((case.name, f"{case.doubt:.3f}", "alarm" if case.alarm else "-", told))
    print_table(rows)
    print(shown(Path(options["out"]) / "cases.csv"))
    if any(case.error for case in cases):
        raise SystemExit(1)
