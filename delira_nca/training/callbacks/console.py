"""Commands to a running training: from a menu on the terminal, or from a file in the folder of the run."""

from __future__ import annotations

import ast
import importlib
import json
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from delira_nca.checks import require_callable, require_number
from delira_nca.data_loading.show import draw_batch
from delira_nca.errors import ConfigError, DeliraNCAError, UnknownNameError, did_you_mean, nearest_name, require_choice
from delira_nca.io.files import replaced, writable
from delira_nca.io.paths import absolute
from delira_nca.training.callbacks.abstract_callback import AbstractCallback, Trainer
from delira_nca.training.callbacks.checkpoint import Checkpoint
from delira_nca.training.callbacks.schedule import check_value, find_path
from delira_nca.training.distributed.context import context_of
from delira_nca.training.set_values import as_arrays

__all__ = ["CONTROL_FILE", "REPLIES", "VERBS", "Console", "checked_command", "send_command"]

_LOGGER = logging.getLogger("delira_nca")
CONTROL_FILE = "control.txt"
"""File in the folder of a run whose lines are commands."""
REPLIES = "console.log"
"""File in the folder of a run with the replies to these commands."""
_JOURNAL = "console.jsonl"
_NUM_ARGUMENTS = {"set": 2, "get": 1, "lr": 1}
VERBS = {
    "help": "list the commands",
    "status": "epoch, step, losses and best score",
    "set": "set PATH VALUE: change a setting, such as model.fire_rate or pool.num_damaged",
    "get": "get PATH: show a setting",
    "lr": "lr VALUE: change the learning rate of all optimizers",
    "stats": "mean, standard deviation and largest value of each parameter and its gradient",
    "batch": "draw the current batch into batch_STEP.png",
    "preview": "draw fixed cases, if the training has a CasePreview",
    "save": "write a checkpoint",
    "stop": "stop after this step, with the state saved",
    "continue": "leave the menu",
}
"""Commands and their descriptions."""


def send_command(folder: str | os.PathLike[str], command: str) -> Path:
    """Write a command for a `Console` into the control file of a run, and return the file.

    Parameters
    ----------
    folder : str or path-like
        Folder of the run.
    command : str
        Command, such as ``"lr 1e-4"``.

    Raises
    ------
    UnknownNameError, ConfigError
        If the command is not valid, see `checked_command`, or there is no such folder.
    """
    line, path = checked_command(command, is_known=False), absolute(folder)
    if not path.is_dir():
        raise ConfigError(f"there is no folder {path}")
    with (path / CONTROL_FILE).open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    return path / CONTROL_FILE


def checked_command(command: str, *, is_known: bool = True) -> str:
    """Check verb and arguments of a command, and return it with single spaces.

    Parameters
    ----------
    command : str
        Command.
    is_known : bool
        Whether the verb must be one of `VERBS`; callbacks of the training may have others.

    Examples
    --------
    >>> checked_command("set model.training_timesteps (4, 6)")
    'set model.training_timesteps (4, 6)'
    """
    verb, *words = command.split() or [""]
    if verb not in VERBS:
        close = nearest_name(verb, list(VERBS))
        if is_known or close is not None or not verb:
            raise UnknownNameError(f"unknown command {verb!r}. {did_you_mean(verb, VERBS)}")
        return " ".join([verb, *words])
    words = _arguments(verb, words)
    if verb in ("set", "lr"):
        _parsed(words[-1])
    return " ".join([verb, *words])


class Console(AbstractCallback):
    """Steer a training while it runs.

    On a terminal, Ctrl+C opens a menu after the current step; a second one stops the training as without this callback.
    Without a terminal, commands are read from ``control.txt`` in the folder of the run, for example those of
    ``delira-nca tell RUN lr 1e-4``; replies are logged, and appended to ``console.log``. Commands from before the
    training are dropped. Every change is written to ``console.jsonl``, from which a resumed training repeats it at the
    same step, so that its results are those of the training that was not stopped.

    Parameters
    ----------
    mode : {"auto", "terminal", "file", "off"}
        ``"auto"`` reads the file, and opens the menu if standard input is a terminal.
    folder : str or path-like, optional
        Folder of the files; by default the ``save_path`` of the trainer, or its parent if it is called
        ``checkpoints``.
    every : float
        Smallest number of seconds between two looks into the control file.
    commands : mapping of str to callable, optional
        Further commands, beside those of the other callbacks (``console_commands``): functions of the trainer, the text
        of whose result is the reply.
    ask : callable, optional
        Function that returns the next line of the menu; by default prompt_toolkit if it is installed, else ``input``.

    Raises
    ------
    UnknownNameError, ConfigError
        If the mode is unknown, or an argument is invalid; from the training, if several processes train together or
        the folder is unknown.
    """

    rolls_back = False

    def __init__(
        self,
        mode: str = "auto",
        *,
        folder: str | os.PathLike[str] | None = None,
        every: float = 1.0,
        commands: Mapping[str, Callable[[Any], Any]] | None = None,
        ask: Callable[[], str] | None = None,
    ) -> None:
        require_choice("mode of a console", mode, ("auto", "terminal", "file", "off"))
        require_number("every", every, 0)
        self.commands = dict(commands or {})
        for name, function in self.commands.items():
            require_callable(f"the command {name!r}", function)
        self.mode, self.every, self.folder = mode, every, None if folder is None else absolute(folder)
        self._ask = ask
        self._files: Path | None = None
        self._pending: list[dict[str, Any]] = []
        self._asked = False
        self._former: Any = None
        self._looked = float("-inf")
        self._losses: dict[str, float] = {}
        self._batch: Mapping[str, Any] = {}

    @property
    def _has_menu(self) -> bool:
        return self.mode == "terminal" or (self.mode == "auto" and sys.stdin is not None and sys.stdin.isatty())

    def at_training_begin(self, trainer: Trainer, **event: Any) -> None:
        """Repeat the changes of a resumed run, and take over Ctrl+C on a terminal."""
        if self.mode == "off":
            return
        if context_of(trainer).size > 1:
            raise ConfigError("a Console steers a training in one process")
        self._files = self._folder(trainer)
        if self._files is not None and (left := self._read_commands()):
            _LOGGER.warning("commands from before the training are dropped: %s", "; ".join(left))
        entries = [entry for entry in self._journal() if entry["run"] == trainer.run_id]
        for entry in entries:
            if entry["step"] <= trainer.step:
                self._repeat(trainer, entry)
        self._pending = [entry for entry in entries if entry["step"] > trainer.step]
        if self._has_menu and threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGINT, self._note_ctrl_c)

    @staticmethod
    def _repeat(trainer: Trainer, entry: Mapping[str, Any]) -> None:
        """Repeat a recorded change, unless it is invalid, as one of an earlier version may be."""
        value = _as_value(entry["value"])
        try:
            check_value(trainer, entry["path"], value)
        except DeliraNCAError as error:
            _LOGGER.warning("the recorded change of step %d is skipped: %s", entry["step"], error)
            return
        find_path(trainer, entry["path"]).set(value)

    def _folder(self, trainer: Trainer) -> Path | None:
        path = self.folder or trainer.save_path
        if path is None:
            if self.mode == "file":
                raise ConfigError("Console has no folder: give it one, or the trainer a save_path")
            return None
        return path.parent if self.folder is None and path.name == "checkpoints" else path

    def _note_ctrl_c(self, number: int, frame: Any) -> None:
        if self._asked and callable(self._former):
            self._former(number, frame)
        self._asked = True

    def at_iter_end(
        self, trainer: Trainer, *, train: bool, metrics: Mapping[str, Any], data_dict: Mapping[str, Any], **event: Any
    ) -> None:
        """Store the losses and the batch of the step."""
        if train and self.mode != "off":
            self._losses, self._batch = dict(metrics), data_dict

    def at_iter_done(self, trainer: Trainer, *, curr_epoch: int, **event: Any) -> None:
        """Repeat changes of this step, open the menu, and obey the control file."""
        if self.mode == "off":
            return
        while self._pending and self._pending[0]["step"] <= trainer.step:
            self._repeat(trainer, self._pending.pop(0))
        if self._asked:
            self.open_menu(trainer, curr_epoch)
        for line in self._new_lines():
            try:
                reply = self.execute(trainer, line, curr_epoch)
            except Exception as error:  # a command must not end a training
                if not isinstance(error, DeliraNCAError):
                    _LOGGER.exception("the command %r failed", line)
                reply = f"error: {error}"
            self._reply(trainer, line, reply)

    def _reply(self, trainer: Trainer, line: str, text: str) -> None:
        """Log a reply, and append it to the file of replies."""
        _LOGGER.info("%s: %s", line, text)
        if self._files is not None:
            try:
                with (self._files / REPLIES).open("a", encoding="utf-8") as file:
                    file.write(f"step {trainer.step}, {line}: {text}\n")
            except OSError as error:
                _LOGGER.warning("the reply is not written: %s", error)

    def open_menu(self, trainer: Trainer, curr_epoch: int = 0, *, ask: Callable[[], str] | None = None) -> str:
        """Read and execute commands until one leaves the menu, and return that one.

        Parameters
        ----------
        trainer : PyTorchNetworkTrainer
            Trainer.
        curr_epoch : int
            Number of the current epoch.
        ask : callable or None
            Function that returns the next line; that of the constructor by default.
        """
        ours = signal.signal(signal.SIGINT, signal.default_int_handler) if self._former is not None else None
        tqdm.write(f"paused at step {trainer.step}; 'help' lists the commands, 'continue' leaves the menu")
        try:
            while True:
                try:
                    line = (ask or self._ask or _ask)().strip()
                    tqdm.write(self.execute(trainer, line, curr_epoch) if line else "")
                except EOFError:
                    line = "continue"
                except KeyboardInterrupt:
                    line = "stop"
                    self.execute(trainer, line, curr_epoch)
                except Exception as error:  # a command must not end a training
                    tqdm.write(str(error) or type(error).__name__)
                    continue
                if (verb := line.partition(" ")[0]) in ("continue", "stop"):
                    return verb
        finally:
            self._asked = False
            if ours is not None:
                signal.signal(signal.SIGINT, ours)

    def _new_lines(self) -> list[str]:
        """Return the lines of the control file, and remove it, if it is time to look."""
        if self._files is None or time.monotonic() - self._looked < self.every:
            return []
        self._looked = time.monotonic()
        return self._read_commands()

    def _read_commands(self) -> list[str]:
        path = Path(self._files or ".") / CONTROL_FILE
        taken = path.with_name(f".{CONTROL_FILE}.taken")
        try:
            os.replace(path, taken)  # lines that are written from now on are in a new file
            text = taken.read_text(encoding="utf-8")
            taken.unlink()
        except FileNotFoundError:
            return []
        return [line.strip() for line in text.splitlines() if line.strip()]

    def execute(self, trainer: Trainer, line: str, curr_epoch: int = 0) -> str:
        """Execute a command and return the reply.

        Parameters
        ----------
        trainer : PyTorchNetworkTrainer
            Trainer.
        line : str
            Command with its arguments.
        curr_epoch : int
            Number of the current epoch.
        """
        verb, *words = line.split()
        commands: dict[str, Callable[[Any], Any]] = {}
        for callback in trainer.callbacks:
            commands |= getattr(callback, "console_commands", dict)()
        commands |= self.commands
        known = {**VERBS, **dict.fromkeys(commands, "command of this training")}
        if verb not in known:
            raise UnknownNameError(f"unknown command {verb!r}. {did_you_mean(verb, known)}")
        if verb in commands:
            reply = commands[verb](trainer)
            return "done" if reply is None else str(reply)
        words = _arguments(verb, words)
        if verb == "help":
            return "\n".join(f"{name:10}{text}" for name, text in known.items())
        if verb == "status":
            return self._status(trainer, curr_epoch)
        if verb == "stats":
            return _statistics(trainer)
        if verb == "batch":
            return self._draw_batch(trainer)
        if verb == "preview":
            raise ConfigError("this training has no CasePreview")
        if verb == "get":
            return f"{words[0]} = {find_path(trainer, words[0]).get()!r}"
        if verb in ("set", "lr"):
            path, text = ("optimizer.lr", words[0]) if verb == "lr" else (words[0], words[1])
            return self._change(trainer, path, _parsed(text))
        if verb == "save":
            return self._save(trainer, curr_epoch)
        if verb == "stop":
            trainer.stop("stopped by the console", now=True)
            return "the training stops"
        return "the training continues"

    def _change(self, trainer: Trainer, path: str, value: Any) -> str:
        setting, value = find_path(trainer, path), _as_value(value)
        former = setting.get()
        check_value(trainer, path, value)
        setting.set(value)
        if self._files is not None:
            shown = list(value) if isinstance(value, tuple) else value
            entry = {"run": trainer.run_id, "step": trainer.step, "path": path, "value": shown}
            journal = self._files / _JOURNAL
            with writable(journal), journal.open("a+b") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    file.write(b"" if file.read() == b"\n" else b"\n")  # a kill has cut the last line
                file.write(json.dumps(entry).encode() + b"\n")
        return f"{path} = {setting.get()!r} (was {former!r}) from step {trainer.step} on"

    def _status(self, trainer: Trainer, epoch: int) -> str:
        losses = ", ".join(f"{name} {float(value):.5g}" for name, value in self._losses.items())
        best = "" if trainer.best.score is None else f"; best {trainer.best.score:.5g} in epoch {trainer.best.epoch}"
        return f"epoch {epoch}, step {trainer.step}: {losses}{best}"

    def _draw_batch(self, trainer: Trainer) -> str:
        if self._files is None:
            raise ConfigError("Console has no folder for the image: give it one, or the trainer a save_path")
        if not self._batch:
            raise ConfigError("no batch has been trained on yet")
        batch = {name: as_arrays(torch.as_tensor(v)) for name, v in self._batch.items() if hasattr(v, "__array__")}
        path = self._files / f"batch_{trainer.step}.png"
        with replaced(path) as temporary:
            draw_batch(batch, title=f"batch of step {trainer.step}").savefig(temporary, format="png")
        return str(path)

    def _save(self, trainer: Trainer, epoch: int) -> str:
        checkpoint = next((callback for callback in trainer.callbacks if isinstance(callback, Checkpoint)), None)
        if checkpoint is None:
            raise ConfigError("this training writes no checkpoints")
        if not trainer.is_between_steps:
            raise ConfigError("a step of this batch is still to come: save again after it")
        checkpoint.save_now(trainer, epoch)
        return f"saved after step {trainer.step}"

    def _journal(self) -> list[dict[str, Any]]:
        path = None if self._files is None else self._files / _JOURNAL
        if path is None or not path.is_file():
            return []
        entries = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError:  # the line of a process that was killed while it wrote
                continue
        return entries

    def at_training_end(self, trainer: Trainer, **event: Any) -> None:
        """Give Ctrl+C back."""
        if self._former is not None and signal.getsignal(signal.SIGINT) == self._note_ctrl_c:
            signal.signal(signal.SIGINT, self._former)
        self._former, self._asked, self._batch = None, False, {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_former": None, "_ask": None, "_batch": {}}


def _arguments(verb: str, words: list[str]) -> list[str]:
    """Check the number of arguments of a command; a value may contain spaces."""
    if verb in ("set", "lr"):
        words = [*words[: _NUM_ARGUMENTS[verb] - 1], " ".join(words[_NUM_ARGUMENTS[verb] - 1 :])]
        words = [word for word in words if word]
    if len(words) != (needed := _NUM_ARGUMENTS.get(verb, 0)):
        raise ConfigError(f"{verb} takes {needed} arguments: {VERBS[verb]}")
    return words


def _parsed(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = None
    parts = value if isinstance(value, (tuple, list)) else [value]
    if not parts or not all(isinstance(part, (int, float)) and math.isfinite(part) for part in parts):
        raise ConfigError(f"a setting is a finite number, True, False, or a tuple of numbers, not {text!r}")
    return list(value) if isinstance(value, tuple) else value


def _as_value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _statistics(trainer: Trainer) -> str:
    rows = [f"{'parameter':40}{'mean':>12}{'std':>12}{'largest':>12}{'gradient':>12}"]
    for name, parameter in trainer.network.named_parameters():
        values = parameter.detach().float()
        spread = float(values.std()) if values.numel() > 1 else 0.0
        gradient = "none" if parameter.grad is None else f"{float(parameter.grad.norm()):.4g}"
        numbers = f"{float(values.mean()):12.4g}{spread:12.4g}{float(values.abs().max()):12.4g}"
        rows.append(f"{name:40}{numbers}{gradient:>12}")
    return "\n".join(rows)


def _ask() -> str:
    try:
        toolkit = importlib.import_module("prompt_toolkit")
        completion = importlib.import_module("prompt_toolkit.completion")
    except ImportError:
        return input("delira_nca> ")
    return str(toolkit.prompt("delira_nca> ", completer=completion.WordCompleter(sorted(VERBS))))
