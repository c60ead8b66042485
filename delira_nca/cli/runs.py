"""Commands ``delira-nca train, resume, validate, predict, list, show, compare, sweep`` for runs of a config."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from typing import TYPE_CHECKING

from delira_nca.cli.grow import report
from delira_nca.cli.parser import Commands, add_command, argument, given, print_table, refuse_options_as_overrides
from delira_nca.cli.segment import predict_images
from delira_nca.io.paths import absolute, shown

if TYPE_CHECKING:
    from delira_nca.experiment import Run
    from delira_nca.experiment.open_run import ExperimentRun

__all__ = ["add_runs"]

_REPLY_SECONDS = 10.0
"""Seconds that ``tell`` waits for a reply, which comes after the current step."""


def add_runs(commands: Commands) -> None:
    """Add the commands."""
    add = partial(add_command, commands)
    config = argument("config", metavar="FILE", help="YAML or JSON")
    root = argument("--root", metavar="DIR", help="folder of all runs (default: runs)")
    how = "never (the default: an existing run of this name is an error), or auto (it is resumed)"
    resume = argument("--resume", metavar="HOW", help=how)
    quiet = argument("--quiet", action="store_true", help="show no progress")
    printed = "print the whole config and exit"
    print_config = argument("--print_config", "--print-config", action="store_true", help=printed)
    short = "train the run of a config file"
    menu = argument("--console", action="store_true", help="open a menu on Ctrl+C, instead of stopping")
    add("train", short, _train, config, root, resume, quiet, menu, print_config, overrides=[])
    run = argument("folder", metavar="RUN", help="folder of the run")
    add("resume", "resume a run that ended before its last epoch", _resume, run, quiet)
    words = argument(
        "words", metavar="COMMAND", nargs="+", help="such as: lr 1e-4, set model.fire_rate 0.75, save, stop"
    )
    add("tell", "send a command to a run that is being trained", _tell, run, words)
    checkpoint = argument("--checkpoint", metavar="NAME", help="best, latest, or a file of the run (default: best)")
    part = argument("--part", help="part of the samples: train, valid or test (default: valid)")
    add("validate", "evaluate a trained network", _validate, run, checkpoint, part)
    part = argument("--part", help="part of the samples: train, valid or test (default: test)")
    out = argument(
        "--out",
        metavar="PATH",
        help=".npy or .npz file (default: predictions.npy in the run's folder); folder of masks",
    )
    images = argument("images", metavar="IMAGES", nargs="?", help="folder of other images, or one image, to segment")
    add(
        "predict",
        "write the predictions of a trained network",
        _predict,
        run,
        images,
        checkpoint,
        part,
        out,
        argument("--probabilities", action="store_true", help="with IMAGES: also write probabilities"),
        argument("--tuned", action="store_true", help="with IMAGES: the best settings of the report"),
        argument("--threshold", type=float, help="with IMAGES: probability above which a cell is foreground"),
        argument("--min-size", type=int, help="with IMAGES: cells below which a component is background"),
        argument("--steps", type=int, help="with IMAGES: number of steps of the finest level"),
        argument("--doubt", action="store_true", help="with IMAGES: also write the doubt of every cell"),
        argument("--channel-axis", type=int, help="with IMAGES: axis of the channels in .npy images"),
    )
    place = argument("root", metavar="DIR", nargs="?", default="runs", help="folder of all runs (default: %(default)s)")
    add("list", "list all runs and their progress", _list, place)
    add("show", "show the config, scores and files of a run", _show, run)
    folders = argument(
        "folders", metavar="RUN", nargs="+", help="folders of runs with a common parent, or the folder of all runs"
    )
    plot = argument("--plot", metavar="FILE", default=None, help="plot the score of each run over its epochs")
    add("compare", "compare several runs, the best first", _compare, folders, plot)
    add(
        "sweep",
        "run a config with several values",
        _sweep,
        config,
        root,
        argument("--method", help="grid, random or optuna (default: grid)"),
        argument("--num-trials", type=int, metavar="N", help="number of runs of a random or Optuna search"),
        argument("--sweep-seed", dest="seed", type=int, metavar="N", help="seed of a search (default: 0)"),
        argument("--launcher", default=None, help="serial, pool, ray or submitit (default: serial)"),
        argument(
            "--num-workers", type=int, metavar="N", default=None, help="number of concurrent runs, with pool and ray"
        ),
        plot,
        overrides=[],
    )


def _train(arguments: argparse.Namespace) -> None:
    """Train the run of a config.

    Values can be overridden by dotted name, after the file: --trainer.lr 1e-3 --data.batch_size=8. The objects that a
    config names are imported and built: a config from another person can execute code.
    """
    from delira_nca.experiment import Run, RunConfig
    from delira_nca.experiment.config import parse_overrides

    refuse_options_as_overrides(arguments.overrides, arguments.options)
    config = RunConfig.from_file(arguments.config, parse_overrides(arguments.overrides))
    if arguments.print_config:
        print(config.to_yaml(), end="")
        return
    run = Run.create(config, **given(arguments, "config", "quiet", "print_config", "console"))
    _train_run(run, progress=not arguments.quiet, console=arguments.console)


def _train_run(run: Run | ExperimentRun, *, progress: bool, console: bool = False) -> None:
    from delira_nca.experiment import Run
    from delira_nca.training.callbacks import Console
    from delira_nca.training.distributed import init_from_environment

    if console and isinstance(run, Run):
        result = run.train(progress=progress, callbacks=[Console("terminal", folder=run.folder)])
    else:
        result = run.train(progress=progress)
    if not init_from_environment().is_main:
        return
    for name, value in {**result.scores, **{f"test_{k}": v for k, v in result.test_scores.items()}}.items():
        print(f"{name}: {value:.6g}")
    if result.best_score is not None:
        print(f"best: {result.best_score:.6g} in epoch {result.best_epoch}")
    if result.stop_reason:
        print(f"stopped early: {result.stop_reason}")
    print(shown(run.folder))


def _resume(arguments: argparse.Namespace) -> None:
    """Resume a run from its newest valid checkpoint, with the same bits as an uninterrupted run.

    The objects that its config names are imported and built: a run from another person can execute code.
    """
    from delira_nca.experiment import Run, resume_growing
    from delira_nca.experiment.growing import is_growing
    from delira_nca.experiment.open_run import open_run
    from delira_nca.io import plan_resume

    run = open_run(arguments.folder)
    print(plan_resume("auto", run.stored.checkpoints))
    if isinstance(run, Run) and is_growing(run.config):
        report(resume_growing(run.folder, progress=not arguments.quiet))
    else:
        _train_run(run, progress=not arguments.quiet)


def _tell(arguments: argparse.Namespace) -> None:
    """Send a command to a run that is being trained.

    The run reads it after its current step. The reply is printed, and appended to ``console.log`` in the folder of the
    run. Changes are recorded there, so that a resumed run repeats them at the same step. ``delira-nca tell RUN help``
    lists the commands.
    """
    from delira_nca.errors import ConfigError, MissingFileError
    from delira_nca.io.run_lock import is_locked
    from delira_nca.training.callbacks.console import REPLIES, checked_command, send_command

    folder, command = absolute(arguments.folder), checked_command(" ".join(arguments.words), is_known=False)
    if not folder.is_dir():
        raise MissingFileError(f"there is no folder {folder}")
    if not is_locked(folder / "checkpoints") and not is_locked(folder):
        raise ConfigError(f"no process is training the run in {folder}")
    replies = folder / REPLIES
    before = replies.stat().st_size if replies.exists() else 0
    send_command(folder, command)
    end = time.monotonic() + _REPLY_SECONDS
    while time.monotonic() < end and not (replies.exists() and replies.stat().st_size > before):
        time.sleep(0.05)
    reply = replies.read_bytes()[before:].decode() if replies.exists() else ""
    print(reply.rstrip("\n") or f"no reply yet; a later one is appended to {shown(replies)}")


def _validate(arguments: argparse.Namespace) -> None:
    """Print the losses and metrics of a checkpoint as JSON.

    The objects that its config names are imported and built: a run from another person can execute code.
    """
    from delira_nca.experiment.open_run import open_run

    print(json.dumps(open_run(arguments.folder).validate(**given(arguments, "folder")), indent=2))


def _predict(arguments: argparse.Namespace) -> None:
    """Write predictions of samples of a run, or masks of a folder of images for a run of ``segment``.

    Predictions of samples are written to a .npy file, or to a .npz file if samples differ in shape or there are
    several outputs; the extension of the file selects the format. Masks are written to the folder --out, in the format
    and on the grid of their images, with a table of the cases. An image that cannot be predicted is named in the table,
    and the exit status is then 1. The objects that the config of the run names are imported and built: a run from
    another person can execute code.
    """
    from delira_nca.errors import ConfigError
    from delira_nca.experiment.open_run import open_run

    if getattr(arguments, "images", None) is not None:
        predict_images(arguments)
        return
    for name in ("probabilities", "doubt", "tuned", "threshold", "min_size", "steps", "channel_axis"):
        if vars(arguments).pop(name, None) not in (None, False):
            raise ConfigError(f"--{name.replace('_', '-')} has no effect without a folder of images")
    vars(arguments).pop("images", None)
    run = open_run(arguments.folder)
    options = {"out": run.folder / "predictions.npy", **given(arguments, "folder")}
    print(shown(run.predict(**options)))


def _list(arguments: argparse.Namespace) -> None:
    """List all runs of a folder."""
    from delira_nca.errors import MissingFileError
    from delira_nca.experiment import summarise
    from delira_nca.experiment.comparison import find_runs

    root = absolute(arguments.root)
    if not root.is_dir():
        raise MissingFileError(f"there is no folder {arguments.root!r}: give the folder of all runs")
    rows = [("RUN", "STATE", "EPOCHS", "BEST", "IN EPOCH")]
    for run in map(summarise, find_runs(root)):
        epochs = str(int(run.history[-1]["epoch"])) if run.history else "0"
        best = "-" if run.best_score is None else f"{run.best_score:.6g}"
        name = run.folder.relative_to(root).as_posix()
        rows.append((name, run.state, epochs, best, "-" if run.best_epoch is None else str(run.best_epoch)))
    print_table(rows)


def _show(arguments: argparse.Namespace) -> None:
    """Show one run. No code of the run is executed."""
    from delira_nca.experiment import StoredRun, summarise
    from delira_nca.experiment.config import digest_of
    from delira_nca.experiment.plain_files import read_plain
    from delira_nca.experiment.run import config_of, directory_of
    from delira_nca.io import plan_resume
    from delira_nca.io.manifest import checkpoints_in

    folder = absolute(arguments.folder)
    config = config_of(folder)
    values = read_plain(config)
    print(config.read_text(encoding="utf-8"), end="")
    if config.suffix == ".yaml":
        print(f"digest: {digest_of(values)}")
        print(f"directory of relative paths: {directory_of(folder) or '.'}")
    summary = summarise(folder)
    print(f"state: {summary.state}")
    for name, value in summary.scores.items():
        print(f"{name}: {value:.6g}")
    stored = StoredRun(folder)
    for file in checkpoints_in(stored.checkpoints):
        print(shown(file))
    if summary.state == "ended":
        print(plan_resume("auto", stored.checkpoints))


def _compare(arguments: argparse.Namespace) -> None:
    """Compare runs by their score, with the values in which their configs differ."""
    from delira_nca.errors import ConfigError
    from delira_nca.experiment import compare_runs
    from delira_nca.experiment.store import CONFIG_FILES

    _check_plot(arguments.plot)
    folders = [absolute(folder) for folder in arguments.folders]
    if len(folders) == 1 and not any((folders[0] / name).is_file() for name in CONFIG_FILES):
        comparison = compare_runs(folders[0])
    else:
        roots = {folder.parent for folder in folders}
        if len(roots) > 1:
            raise ConfigError(f"runs are compared within one folder, not {', '.join(map(str, sorted(roots)))}")
        comparison = compare_runs(roots.pop(), [folder.name for folder in folders])
    print(comparison)
    if arguments.plot:
        print(shown(comparison.save_plot(arguments.plot)))


def _check_plot(path: str | None) -> None:
    """Check the suffix and the folder of a plot before the work starts."""
    from delira_nca.io.files import make_folder, writable
    from delira_nca.visualization.plots import METADATA, suffix_of

    if path is not None:
        suffix_of(absolute(path), list(METADATA))
        with writable(path), tempfile.TemporaryFile(dir=make_folder(absolute(path).parent)):
            pass


def _sweep(arguments: argparse.Namespace) -> None:
    """Run a config with several values and compare the runs.

    Values are given by dotted name. A list is tried, --trainer.lr '[1e-3, 3e-3]', as is a range, --trainer.lr '{low:
    1e-4, high: 1e-2, log: true}'; a single value is set in all runs, --num_epochs 5. The same command resumes an
    interrupted sweep.
    """
    from delira_nca.errors import ConfigError
    from delira_nca.experiment import RunConfig, sweep
    from delira_nca.experiment.config import parse_overrides
    from delira_nca.experiment.launchers import LaunchError, launcher_by_name

    _check_plot(arguments.plot)
    if arguments.num_workers is not None and arguments.launcher is None:
        raise ConfigError("--num-workers is of a launcher: give --launcher pool")
    workers = {} if arguments.num_workers is None else {"num_workers": arguments.num_workers}
    refuse_options_as_overrides(arguments.overrides, arguments.options)
    values = parse_overrides(arguments.overrides)
    tried = {name: value for name, value in values.items() if isinstance(value, (list, dict))}
    first = {name: values[0] for name, values in tried.items() if isinstance(values, list) and values}
    fixed = {**first, **{name: value for name, value in values.items() if name not in tried}}
    try:
        comparison = sweep(
            RunConfig.from_file(arguments.config, fixed),
            tried,
            **given(arguments, "config", "launcher", "num_workers", "plot"),
            launcher=None if arguments.launcher is None else launcher_by_name(arguments.launcher, **workers),
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command resumes the sweep") from None
    print(comparison)
    failed = [run.name for run in comparison.runs if run.state == "ended"]
    if failed:
        raise LaunchError(f"{len(failed)} of {len(comparison.runs)} runs failed: {', '.join(failed)}")
    if arguments.plot:
        print(shown(comparison.save_plot(arguments.plot)))
