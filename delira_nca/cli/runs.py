"""``delira-nca train, resume, validate, predict, list, show, compare``: runs of a config."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from delira_nca.cli.grow import report
from delira_nca.cli.parser import Commands, Parser, add_command, refuse_options_as_overrides
from delira_nca.io.paths import absolute, shown

if TYPE_CHECKING:
    from delira_nca.experiment import Run
    from delira_nca.experiment.experiments.experiment_run import ExperimentRun

__all__ = ["add_compare", "add_list", "add_predict", "add_resume", "add_show", "add_train", "add_validate"]


_RUNS_CODE = " The objects that its config names are imported and built: a run of somebody else can run code."


def _finish(parser: Parser, run: object) -> None:
    parser.set_defaults(run=run, options=sorted(parser._option_string_actions))


def add_train(commands: Commands) -> None:
    """Add the command that trains."""
    parser = add_command(
        commands,
        "train",
        "train the run that a file describes",
        "Train the run of a config. Any of its values can be set otherwise by dotted name, after the file: "
        "--trainer.lr 1e-3 --data.batch_size=8. The objects that a config names are imported and built: a config of "
        "somebody else can run code.",
    )
    parser.add_argument("config", metavar="FILE", help="YAML or JSON")
    parser.add_argument("--root", metavar="DIR", default="runs", help="folder of all runs (default: runs)")
    parser.add_argument(
        "--resume",
        metavar="HOW",
        default="never",
        help="never (the default: a run of this name is refused), or auto (it is resumed)",
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.add_argument(
        "--print_config", "--print-config", action="store_true", help="print the whole config, and do nothing"
    )
    parser.set_defaults(overrides=[])
    _finish(parser, _train)


def _train(arguments: argparse.Namespace) -> None:
    from delira_nca.experiment import Run, RunConfig
    from delira_nca.experiment.config.overrides import parse_overrides

    refuse_options_as_overrides(arguments.overrides, arguments.options)
    config = RunConfig.from_file(arguments.config, parse_overrides(arguments.overrides))
    if arguments.print_config:
        print(config.to_yaml(), end="")
        return
    run = Run.create(config, arguments.root, resume=arguments.resume)
    _train_run(run, progress=not arguments.quiet)


def _train_run(run: Run | ExperimentRun, *, progress: bool) -> None:
    from delira_nca.training.distributed import init_from_environment

    result = run.train(progress=progress)
    if not init_from_environment().is_main:
        return
    for name, value in {**result.scores, **{f"test_{k}": v for k, v in result.test_scores.items()}}.items():
        print(f"{name}: {value:.6g}")
    if result.best_score is not None:
        print(f"best: {result.best_score:.6g} in epoch {result.best_epoch}")
    print(shown(run.folder))


def add_resume(commands: Commands) -> None:
    """Add the command that goes on."""
    parser = add_command(
        commands,
        "resume",
        "finish a run that was ended before its last epoch",
        "Resume a run from its newest sound checkpoint, bit for bit as if it had not been stopped." + _RUNS_CODE,
    )
    parser.add_argument("folder", metavar="RUN", help="folder of the run")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    _finish(parser, _resume)


def _resume(arguments: argparse.Namespace) -> None:
    from delira_nca.experiment import Run, resume_growing
    from delira_nca.experiment.experiments.experiment_run import open_run
    from delira_nca.experiment.growing.run import is_growing
    from delira_nca.io import plan_resume

    run = open_run(arguments.folder)
    print(plan_resume("auto", run.stored.checkpoints))
    if isinstance(run, Run) and is_growing(run.config):
        report(resume_growing(run.folder, progress=not arguments.quiet))
    else:
        _train_run(run, progress=not arguments.quiet)


def _add_evaluation(parser: Parser, part: str) -> None:
    parser.add_argument("folder", metavar="RUN", help="folder of the run")
    parser.add_argument("--checkpoint", metavar="NAME", default="best", help="best, latest, or a file of the run")
    parser.add_argument("--part", default=part, help=f"of the samples: train, valid or test (default: {part})")


def add_validate(commands: Commands) -> None:
    """Add the command that measures."""
    parser = add_command(
        commands,
        "validate",
        "measure a trained network",
        "Print losses and metrics of a checkpoint, as JSON." + _RUNS_CODE,
    )
    _add_evaluation(parser, "valid")
    _finish(parser, _validate)


def _validate(arguments: argparse.Namespace) -> None:
    from delira_nca.experiment.experiments.experiment_run import open_run

    print(json.dumps(open_run(arguments.folder).validate(arguments.checkpoint, part=arguments.part), indent=2))


def add_predict(commands: Commands) -> None:
    """Add the command that predicts."""
    parser = add_command(
        commands,
        "predict",
        "write what a trained network predicts",
        "Write predictions to a .npy file, or to a .npz file where samples differ in shape or there are several "
        "outputs. The ending decides; others are refused." + _RUNS_CODE,
    )
    _add_evaluation(parser, "test")
    parser.add_argument("--out", metavar="FILE", help=".npy or .npz (default: predictions.npy in the run's folder)")
    _finish(parser, _predict)


def _predict(arguments: argparse.Namespace) -> None:
    from delira_nca.experiment.experiments.experiment_run import open_run

    run = open_run(arguments.folder)
    out = run.folder / "predictions.npy" if arguments.out is None else arguments.out
    print(shown(run.predict(out, arguments.checkpoint, part=arguments.part)))


def add_list(commands: Commands) -> None:
    """Add the command that lists."""
    parser = add_command(commands, "list", "all runs, and how far they are", "List all runs of a folder.")
    parser.add_argument("root", metavar="DIR", nargs="?", default="runs", help="folder of all runs (default: runs)")
    _finish(parser, _list)


def _list(arguments: argparse.Namespace) -> None:
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
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def add_show(commands: Commands) -> None:
    """Add the command that shows one run."""
    parser = add_command(
        commands, "show", "one run: config, scores, files", "Show one run. No code of the run is executed."
    )
    parser.add_argument("folder", metavar="RUN", help="folder of the run")
    _finish(parser, _show)


def _show(arguments: argparse.Namespace) -> None:
    from delira_nca.experiment import StoredRun, summarise
    from delira_nca.experiment.config.run_config import digest_of
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


def add_compare(commands: Commands) -> None:
    """Add the command that compares."""
    parser = add_command(
        commands,
        "compare",
        "several runs side by side, the best first",
        "Compare runs by the score that decides, with those values of their configs that differ.",
    )
    parser.add_argument(
        "folders", metavar="RUN", nargs="+", help="folders of runs beside each other, or one of all runs"
    )
    parser.add_argument("--plot", metavar="FILE", help="draw the score of each run over its epochs")
    _finish(parser, _compare)


def _compare(arguments: argparse.Namespace) -> None:
    from delira_nca.errors import ConfigError
    from delira_nca.experiment import compare_runs
    from delira_nca.experiment.store.stored_run import CONFIG_FILES

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
