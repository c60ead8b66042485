"""Full and mixed precision of a training step: dtype, backward pass and optimizer step."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from delira_nca.errors import ConfigError, did_you_mean
from delira_nca.machine import cpu_features, cpu_name
from delira_nca.rollout import native_library

__all__ = ["Precision"]

_APEX_KEYS = {"allow_banned", "verbose"}
_FEATURES = {torch.bfloat16: {"avx512_bf16", "amx_bf16", "bf16"}, torch.float16: {"avx512_fp16", "amx_fp16", "asimdhp"}}
"""Processor features by dtype. One of them is needed for fast matrix products in the dtype."""


class Precision:
    """Full or mixed precision through ``torch.amp``.

    Parameters
    ----------
    mixed : bool
        Whether torch's autocast computes suitable operations in a lower precision.
    device_type : str
        ``"cpu"`` (bfloat16 by default) or ``"cuda"`` (float16 by default, with a gradient scaler).
    options : dict or None
        ``dtype`` (a torch dtype or its name), ``cache_enabled``, and ``scaler``, a dict for ``torch.amp.GradScaler``.
        Delira's apex keys are accepted: ``enable_caching`` is ``cache_enabled``; the others have no meaning in torch
        and are dropped with a warning.

    Raises
    ------
    ConfigError
        If an option or dtype is unknown.

    Examples
    --------
    >>> precision = Precision(mixed=True, device_type="cpu")
    >>> with precision.autocast():
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.bfloat16
    """

    def __init__(self, mixed: bool = False, device_type: str = "cpu", options: Mapping[str, Any] | None = None) -> None:
        options = dict(options or {})
        if "enable_caching" in options:
            options["cache_enabled"] = options.pop("enable_caching")
        if dropped := sorted(key for key in _APEX_KEYS & options.keys() if options[key]):
            warnings.warn(f"mixed_precision_kwargs {dropped} were apex's and mean nothing to torch.amp", stacklevel=2)
        options = {key: value for key, value in options.items() if key not in _APEX_KEYS}
        known = {"dtype", "cache_enabled", "scaler"}
        if unknown := sorted(options.keys() - known):
            raise ConfigError(f"unknown mixed_precision_kwargs {unknown}. {did_you_mean(unknown[0], known)}")
        self.mixed, self.device_type = bool(mixed), device_type
        self.dtype = self._dtype(options.get("dtype"))
        self.cache_enabled = bool(options.get("cache_enabled", True))
        needs_scaler = self.mixed and self.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(device_type, **options.get("scaler", {})) if needs_scaler else None

    def _dtype(self, dtype: torch.dtype | str | None) -> torch.dtype:
        if dtype is None:
            return torch.float16 if self.device_type == "cuda" else torch.bfloat16
        found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
        if found not in (torch.float16, torch.bfloat16):
            raise ConfigError(f"mixed precision computes in float16 or bfloat16, not {dtype!r}")
        return found

    def check(self, backends: Sequence[str] = ()) -> None:
        """Check that the processor has instructions for the mixed precision.

        Parameters
        ----------
        backends : sequence of str
            Names of the back ends of the training roll-outs.

        Raises
        ------
        ConfigError
            If the native back end would compute in float32, or another one would emulate the dtype, which is slower
            than float32.
        """
        if not self.mixed:
            return
        reason = None
        if self.device_type == "cuda":
            if self.dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
                reason = "this GPU emulates it"
        elif "native" in backends and native_library.load().name != "avx512_bf16":
            reason = f"the native back end computes in float32 with {native_library.load().name}"
        elif set(backends) != {"native"} and (features := cpu_features()) is not None:
            reason = None if features & _FEATURES[self.dtype] else f"{cpu_name()} emulates it, slower than float32"
        if reason is not None:
            name = str(self.dtype).removeprefix("torch.")
            raise ConfigError(
                f"mixed precision in {name} has no instructions here: {reason}. Use mixed_precision=False"
            )

    def autocast(self) -> torch.amp.autocast_mode.autocast:
        """Return the context of the forward pass and the losses."""
        return torch.autocast(self.device_type, self.dtype, self.mixed, self.cache_enabled)

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of the loss, scaled for float16."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: Optimizer) -> None:
        """Call the optimizer's step with unscaled gradients; the scaler skips it if they overflowed."""
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)

    def update(self) -> None:
        """Update the scale, once per iteration, after the step of the last optimizer."""
        if self.scaler is not None:
            self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the scaler; empty without one."""
        return {} if self.scaler is None else dict(self.scaler.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the state of the scaler."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(dict(state))
