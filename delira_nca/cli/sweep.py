"""``delira-nca sweep``: many runs of one config with some values set otherwise."""

from __future__ import annotations

import argparse

from delira_nca.cli.parser import Commands, add_command, refuse_options_as_overrides
from delira_nca.io.paths import shown

__all__ = ["add_sweep"]


def add_sweep(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "sweep",
        "many runs of a config with some values set otherwise",
        "Run a config with many values, and compare the runs. Values are given by dotted name: a list is tried, "
        "--trainer.lr '[1e-3, 3e-3]', as is a range, --trainer.lr '{low: 1e-4, high: 1e-2, log: true}'; a single value "
        "is set in all runs, --num_epochs 5. The same command resumes a sweep that was ended.",
    )
    parser.add_argument("config", metavar="FILE", help="YAML or JSON")
    parser.add_argument("--root", metavar="DIR", default="runs", help="folder of all runs (default: runs)")
    parser.add_argument("--method", default="grid", help="grid, random or optuna (default: grid)")
    parser.add_argument("--num-trials", type=int, metavar="N", help="number of runs of a random or Optuna search")
    parser.add_argument("--sweep-seed", type=int, default=0, metavar="N", help="seed of a search (default: 0)")
    parser.add_argument("--launcher", help="serial, pool, ray or submitit (default: serial)")
    parser.add_argument("--num-workers", type=int, metavar="N", help="runs at the same time, with pool and ray")
    parser.add_argument("--plot", metavar="FILE", help="draw the score of each run over its epochs")
    parser.set_defaults(run=_sweep, overrides=[], options=sorted(parser._option_string_actions))


def _sweep(arguments: argparse.Namespace) -> None:
    from delira_nca.errors import ConfigError
    from delira_nca.experiment import RunConfig, sweep
    from delira_nca.experiment.config.overrides import parse_overrides
    from delira_nca.experiment.launchers import LaunchError, launcher_by_name

    if arguments.num_workers is not None and arguments.launcher is None:
        raise ConfigError("--num-workers is of a launcher: give --launcher pool")
    workers = {} if arguments.num_workers is None else {"num_workers": arguments.num_workers}
    refuse_options_as_overrides(arguments.overrides, arguments.options)
    values = parse_overrides(arguments.overrides)
    tried = {name: value for name, value in values.items() if isinstance(value, (list, dict))}
    fixed = {name: value for name, value in values.items() if name not in tried}
    try:
        comparison = sweep(
            RunConfig.from_file(arguments.config, fixed),
            tried,
            arguments.root,
            method=arguments.method,
            num_trials=arguments.num_trials,
            seed=arguments.sweep_seed,
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
