"""What a process under torchrun does: ``run.py folder everything``, or ``run.py folder fault``."""

import os
import signal
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
import trainings

from delira_nca.errors import ConfigError
from delira_nca.training.callbacks import LambdaCallback, ProgressBar
from delira_nca.training.distributed import (
    all_reduce_sums,
    barrier,
    broadcast,
    end,
    gather,
    init,
    is_main,
    rank,
    world_size,
)


def everything(folder):
    """Train in all ways; the results of all processes are saved by the first."""
    written = watch_writing(folder)
    results = {"talk": (all_reduce_sums({"a": rank() + 1}), broadcast(f"of {rank()}", 1), world_size())}
    barrier()
    trainer = trainings.train_with_a_pool(folder / "straight", callbacks=[ProgressBar()])
    facts = {"losses": trainer.callbacks[1].pool.losses, "run_id": trainer.run_id}
    results["pool"] = {**trainings.summary(trainer), **facts, "text": trainer.describe(), "reason": trainer.stop_reason}
    trainings.train_with_a_pool(folder / "resumed", 2)
    resumed = trainings.train_with_a_pool(folder / "resumed", resume="auto")
    results["resumed"] = dict(resumed.network.state_dict())
    stopped = trainings.train_with_a_pool(folder / "stopped", callbacks=[LambdaCallback(at_iter_done=stop_one)])
    results["stop"] = (stopped.global_iter_num, stopped.stop_reason)
    stopped = trainings.train_with_a_pool(folder / "stopped", resume="auto")
    results["stopped"] = dict(stopped.network.state_dict())
    results["augmented"] = [trainings.augmented(is_per_sample) for is_per_sample in (False, True)]
    results |= {name: trainings.summary(train()) for name, train in trainings.COMPARED.items()}
    results["partly used"] = dict(trainings.train_partly_used().network.state_dict())
    results["predict"] = trainings.predict()
    results["refused"] = refusal(folder)
    results["written"] = list(written)
    everywhere = gather(results)
    if is_main():
        torch.save(everywhere, folder / "results.pt")
    end()
    threads = [name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")]
    print(f"threads left: {sorted(name for name in threads if 'gloo' in name)}", flush=True)  # noqa: T201


def watch_writing(folder):
    """Names of what this process opens to write, makes, moves or removes in a folder, from now on."""
    written = set()

    def hook(event, args):
        if event == "open" and not (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.link"):
            paths = [os.fsdecode(arg) for arg in args if isinstance(arg, (str, bytes, os.PathLike))]
            written.update(path for path in paths if path.startswith(str(folder)))

    sys.addaudithook(hook)
    return written


def stop_one(trainer, global_iter_num):
    """Let the second process alone want to stop, once."""
    if rank() == 1 and global_iter_num == 4:
        trainer.stop("enough", now=True)


def refusal(folder):
    """Message where the processes are told different things; they can talk to one another afterwards."""
    try:
        trainings.pool_trainer(folder / "refused").train(2 + rank(), [trainings.samples(2)], [trainings.samples(2)])
    except ConfigError as error:
        return str(error)
    return None


def fault(folder, kind):
    """Train, and let something happen to the second process in an iteration of its second epoch, the first time."""
    is_again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"

    def happen(trainer, train, global_iter_num):
        if is_again or not (train and rank() == 1 and global_iter_num == 4):
            return
        print(f"happens at {time.time()}", flush=True)  # noqa: T201
        if kind == "raise":
            raise ValueError("on purpose")
        os.kill(os.getpid(), getattr(signal, kind))

    try:
        trainings.train_with_a_pool(folder, resume="auto", callbacks=[LambdaCallback(at_iter_begin=happen)])
    except BaseException as error:
        files = " ".join(sorted(path.name for path in folder.glob("*.safetensors")))
        print(f"rank {rank()}: {type(error).__name__}: {error} at {time.time()} with {files}", flush=True)  # noqa: T201
        raise


if __name__ == "__main__":
    torch.set_num_threads(1)
    init(timeout=float(os.environ.get("PATIENCE", "20")))
    target, what = Path(sys.argv[1]), sys.argv[2]
    if what == "everything":
        everything(target)
    else:
        fault(target, what)
