"""Reduction of gradients over the parts of a batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from delira_nca.errors import ConfigError, DistributedError
from delira_nca.models.precision import Precision
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.training.distributed.group import Group

__all__ = ["Gradients"]

_ONE_BUCKET_MB = 1 << 20  # larger than any network, so that all gradients are in one bucket


class _Step(nn.Module):
    """Forward pass of a training step as a module for ``DistributedDataParallel``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._ddp_params_and_buffers_to_ignore = [f"network.{name}" for name, _ in network.named_buffers()]

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        return compute()


class Gradients:
    """Average gradients over the samples of the whole batch before each optimizer step.

    The closure of the package passes its forward pass to :meth:`forward`, so that ``DistributedDataParallel`` reduces
    the gradients during the backward pass. For a custom closure, which may run any number of passes that
    ``DistributedDataParallel`` does not see, gradients are reduced right before each optimizer step.

    In both cases the gradients of all weights are reduced as one tensor, in the order of the network's parameters, and
    weighted by the number of samples of each part. The sum is therefore bitwise reproducible, also after a resume.

    Parameters
    ----------
    group : Group
        Process group.
    network, optimizers, precision
        Network, optimizers and precision of the trainer.
    find_unused_parameters : bool, optional
        See :func:`delira_nca.training.distributed.init`.

    Raises
    ------
    ConfigError
        For a custom closure with a gradient scaler, which would decide in each rank separately whether to skip a step.
    """

    def __init__(
        self,
        group: Group,
        network: nn.Module,
        optimizers: Mapping[str, Optimizer],
        precision: Precision,
        find_unused_parameters: bool | None,
    ) -> None:
        self.takes_forward = getattr(network, "closure", None) is AbstractPyTorchNetwork.closure
        if not self.takes_forward and precision.scaler is not None:
            raise ConfigError(
                f"{type(network).__name__} has a closure of its own: over several processes it trains in full "
                "precision or in bfloat16, not in float16 with a gradient scaler"
            )
        self._group, self._network = group, network
        self._asked = (
            True if find_unused_parameters is None and precision.scaler is not None else find_unused_parameters
        )
        self._has_unused: bool | None = None
        self._share = 1 / group.size
        self._wrapped: DistributedDataParallel | None = None
        self._trainable: list[nn.Parameter] = []
        self._reduced: set[int] = set()
        self._awaits_all = False
        self._error: BaseException | None = None
        self._versions = [buffer._version for buffer in network.buffers()]
        self._handles = [o.register_step_pre_hook(self._before_step) for o in optimizers.values()]

    def remove(self) -> None:
        """Remove the hooks of the optimizers and the wrapped network."""
        for handle in self._handles:
            handle.remove()
        self._wrapped = None

    def begin(self, share: float) -> None:
        """Start a step; ``share`` is the fraction of the whole batch in this rank."""
        self._share, self._error, self._awaits_all = share, None, False
        self._reduced = set()
        self._same_buffers()

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        """Loss of the part of this rank. Its backward pass computes the gradients of the whole batch."""
        if not torch.is_grad_enabled():
            return compute()
        trainable = [p for p in self._network.parameters() if p.requires_grad]
        self._awaits_all = True
        if [id(p) for p in trainable] != [id(p) for p in self._trainable]:
            self._trainable, self._wrapped, self._has_unused = trainable, None, self._asked
        if self._has_unused is None:
            return compute()  # the first step shows which weights are used
        if self._wrapped is None:
            self._wrapped = DistributedDataParallel(
                _Step(self._network), find_unused_parameters=self._has_unused, bucket_cap_mb=_ONE_BUCKET_MB
            )
            self._wrapped.register_comm_hook(None, lambda _, bucket: self._hook(bucket))
        loss: Tensor = self._wrapped(compute)
        return loss

    def _hook(self, bucket: Any) -> torch.futures.Future[Tensor]:
        """Reduce a bucket of ``DistributedDataParallel``; an error is stored and raised before the step."""
        try:
            place = {id(p): number for number, p in enumerate(self._trainable)}
            pairs = zip(bucket.parameters(), bucket.gradients(), strict=True)
            gradients = [gradient for _, gradient in sorted(pairs, key=lambda pair: place[id(pair[0])])]
            self._reduce(gradients)
            self._reduced |= {id(p) for p in bucket.parameters()}
        except BaseException as error:
            self._error = error
        buffer: Tensor = bucket.buffer()
        future: torch.futures.Future[Tensor] = torch.futures.Future(devices=[buffer.device] if buffer.is_cuda else [])
        future.set_result(buffer)
        return future

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Reduce the gradients that have not been reduced in the backward pass."""
        if self._error is not None:
            raise self._error
        if self._awaits_all and self._wrapped is not None and not self._reduced:
            unused = [name for name, p in self._network.named_parameters() if p.requires_grad and p.grad is None]
            raise DistributedError(
                f"no gradient has reached {', '.join(unused) or 'some weights'} this time, and in the first step one "
                "did: begin with delira_nca.training.distributed.init(find_unused_parameters=True)"
            )
        if self._awaits_all and self._wrapped is None and not self._reduced:
            self._has_unused = self._reduce_grads(self._trainable)
        own = [p for group in optimizer.param_groups for p in group["params"]]
        left = [p for p in own if id(p) not in self._reduced]
        if left:
            self._reduce_grads(left)
        self._reduced -= {id(p) for p in own if not self._awaits_all}

    def _reduce_grads(self, parameters: list[nn.Parameter]) -> bool:
        """Reduce gradients; return whether some parameters have none in any rank. These keep None."""
        has_one = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32)
        used = self._group.all_reduce(has_one).bool().tolist()
        for parameter, is_used in zip(parameters, used, strict=True):
            if is_used and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._reduce([torch.zeros_like(p) if p.grad is None else p.grad for p in parameters])
        self._reduced |= {id(p) for p in parameters}
        return not all(used)

    def _reduce(self, gradients: Iterable[Tensor]) -> None:
        """Replace gradients by the sum over all ranks, weighted by their shares of the batch."""
        gradients = list(gradients)
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        flat = flat * self._share if self._share else torch.zeros_like(flat)
        self._group.all_reduce(flat)
        for gradient, reduced in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(reduced.view_as(gradient))

    def _same_buffers(self) -> None:
        """Broadcast buffers of the main rank that a forward pass has changed, such as those of a batch norm."""
        buffers = list(self._network.buffers())
        versions = [buffer._version for buffer in buffers]
        if versions != self._versions:
            for buffer, now, before in itertools.zip_longest(buffers, versions, self._versions[: len(buffers)]):
                if now != before:
                    self._group.broadcast_tensor(buffer.detach())
        self._versions = [buffer._version for buffer in buffers]
