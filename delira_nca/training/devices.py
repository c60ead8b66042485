"""Where a training computes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from delira_nca.errors import ConfigError

__all__ = ["choose_device"]


def choose_device(gpu_ids: Sequence[int] = (), device: str | torch.device | None = None) -> torch.device:
    """Device of a training.

    Parameters
    ----------
    gpu_ids : ``[n]`` for one GPU.
    device : instead; ``"auto"`` takes a GPU where there is one. The CPU where neither is given.

    Raises
    ------
    ConfigError
        For several GPUs, both arguments, or a device that is not there.

    Examples
    --------
    >>> choose_device()
    device(type='cpu')
    """
    if len(gpu_ids) > 1:
        raise ConfigError(f"gpu_ids names one GPU; several, {list(gpu_ids)}, train with torchrun, one process each")
    if gpu_ids and device is not None:
        raise ConfigError(f"give gpu_ids {list(gpu_ids)} or device {str(device)!r}, not both")
    name = f"cuda:{gpu_ids[0]}" if gpu_ids else "cpu" if device is None else device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        made = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"{name!r} is no device of torch: {str(error).splitlines()[0]}") from error
    if made.type == "cuda" and (not torch.cuda.is_available() or (made.index or 0) >= torch.cuda.device_count()):
        raise ConfigError(f"device {made} was asked for, and torch sees {torch.cuda.device_count()} GPUs")
    return made
