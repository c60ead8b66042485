"""Native back end: a roll-out as one call of the compiled library forward, and one backward."""

from __future__ import annotations

import ctypes
import itertools
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from delira_nca.rollout import native_library
from delira_nca.rollout.cell_parameters import CellParameters
from delira_nca.rollout.cost import check_budget, check_padding, why_not_cpu_tensors
from delira_nca.rollout.job import Job
from delira_nca.rollout.masks import fire_threshold
from delira_nca.rollout.native_library import NativeLibrary
from delira_nca.rollout.threads import THREAD_COUNT, max_threads

__all__ = ["Native"]

_PADDINGS = {"zeros": 0, "reflect": 1, "replicate": 2, "circular": 3}
_LEAKS = {"relu": 0.0, "leaky_relu": 0.01}
_CHUNK = 2**17
"""Bytes of a contiguous chunk of a log: ``Pool::CHUNK`` of ``csrc/pool.h``."""


class Native:
    """Fused roll-out in C++ that skips cells that cannot change and stores only changes.

    A step stores the previous values of the cells that it changes; the backward pass restores them. Perception and
    hidden layer are recomputed tile by tile in the cache. With ``torch.autocast("cpu", torch.bfloat16)``, matrix
    products use bfloat16 if the CPU supports it; the state and all sums remain float32.

    For finite values, results equal those of the reference up to rounding. The number of threads and the memory budget
    do not change any bit.
    """

    name = "native"

    def unavailable(self) -> str | None:
        """Return why the back end cannot run on this machine, or None."""
        return native_library.why_not()

    def refusal(self, job: Job) -> str | None:
        """Return why the back end does not support a job, or None."""
        parameters = job.parameters
        if isinstance(parameters, str):
            return parameters
        if (reason := why_not_cpu_tensors(job.x, parameters, (torch.float32,))) is not None:
            return reason
        if len(parameters.weights) != 2:
            return f"the rule has {len(parameters.weights) - 1} hidden layers, and native knows rules with one"
        if parameters.nonlinearity not in _LEAKS:
            return f"the nonlinearity is {parameters.nonlinearity}, and native knows {' and '.join(_LEAKS)}"
        if max(4 * parameters.num_channels + 64, 8 * -(-job.x.shape[-1] // 64)) > _CHUNK:
            return f"a cell or a row of {tuple(job.x.shape)} is too large for a piece of its log"
        if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") != torch.bfloat16:
            return f"autocast is on with {torch.get_autocast_dtype('cpu')}, and native knows bfloat16"
        return None

    def states(self, job: Job) -> dict[int, Tensor]:
        """Return the state after each of the job's stops."""
        parameters = job.numbers()
        check_padding(parameters.padding, parameters.radius, job.x.shape[2:])
        check_budget(parameters, job)
        call = _Call(job, parameters, native_library.load())
        outs: tuple[Tensor, ...] = _Rollout.apply(call, job.x, *parameters.tensors())  # type: ignore[no-untyped-call]
        return dict(zip(job.stops, outs, strict=True))


class _Call:
    """Arguments of the library for one roll-out. The object owns all memory to which the C struct points."""

    def __init__(self, job: Job, parameters: CellParameters, library: NativeLibrary) -> None:
        self.library, self.parameters, self.stops = library, parameters, job.stops
        self.bf16, self.grad = torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()
        self.numbers = {
            "start": job.start,
            "steps": job.stops[-1],
            "segment": job.segment or 0,
            "budget": job.memory_budget,
            "seed": job.seed & 0xFFFFFFFF,
            "first_sample": job.first_sample,
        }
        self.masks = _masks(job)

    def struct(self, x: Tensor, tensors: list[Tensor | None]) -> tuple[native_library.Job, list[Any]]:
        """Return the C struct, and the objects that must stay alive while it is used."""
        parameters = self.parameters
        held: list[Any] = [_contiguous(tensor) for tensor in tensors]
        filters, filter_bias, full, full_bias, w1, w2, b1, b2 = held
        kernel = filters.shape[2:] if len(filters) else parameters.filters.shape[2:]
        learned = (ctypes.c_uint8 * max(len(parameters.learned), 1))(*parameters.learned)
        stops = (ctypes.c_int64 * len(self.stops))(*self.stops)
        alive = parameters.alive
        struct = native_library.Job(
            batch=x.shape[0],
            channels=parameters.num_channels,
            fixed=parameters.num_fixed_channels,
            shape=_three(x.shape[2:]),
            kernel=_three(kernel),
            padding=_PADDINGS[parameters.padding],
            filters=len(parameters.learned),
            filter=_address(filters),
            learned=learned,
            filter_bias=_address(filter_bias),
            full_outputs=0 if full is None else len(full),
            full=_address(full),
            full_bias=_address(full_bias),
            full_relu=parameters.full_relu,
            hidden=len(w1),
            w1=_address(w1),
            b1=_address(b1),
            w2=_address(w2),
            b2=_address(b2),
            has_time=parameters.time_scale is not None,
            time_scale=parameters.time_scale or 0.0,
            leak=_LEAKS[parameters.nonlinearity],
            noise=parameters.update_noise,
            alive_channel=-1 if alive is None or not (alive.before or alive.after) else alive.channel,
            threshold=0.0 if alive is None else alive.threshold,
            before=alive is not None and alive.before,
            after=alive is not None and alive.after,
            fire_threshold=2**24 if self.masks is not None else fire_threshold(parameters.fire_rate),
            masks=_address(self.masks),
            num_stops=len(self.stops),
            stops=stops,
            threads=self._num_threads(),
            bf16=self.bf16,
            usage=ctypes.pointer(native_library.Usage()),
            **self.numbers,
        )
        return struct, [*held, learned, stops]

    def _num_threads(self) -> int:
        if torch.get_num_threads() > 1:  # spinning threads use up a CPU quota
            native_library.calm_openmp()
        return THREAD_COUNT.choose(max_threads())

    @staticmethod
    def take_note(struct: native_library.Job) -> None:
        """Record the processor time of the threads of a pass, for the choice of the next number."""
        usage = struct.usage.contents
        if usage.threads == struct.threads:  # a small pass uses fewer
            THREAD_COUNT.record(usage.threads, usage.cpu, usage.wall)


class _Rollout(Function):
    """Node of a roll-out in the graph, from the state and all tensors of a cell to the states at the stops."""

    @staticmethod
    def forward(ctx: Any, call: _Call, x: Tensor, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        x = x.contiguous()
        outs = [torch.empty_like(x) for _ in call.stops]
        struct, held = call.struct(x, list(tensors))
        wants_tape = call.grad and any(ctx.needs_input_grad)
        tape = call.library.forward(struct, x.data_ptr(), [out.data_ptr() for out in outs], tape=wants_tape)
        del held
        call.take_note(struct)
        if tape is not None:
            handle = _Handle(_serials())
            _TAPES[handle.value] = _Tape(call.library, tape, handle)
        ctx.call, ctx.shape = call, x.shape
        ctx.save_for_backward(*tensors, None if tape is None else torch.frombuffer(handle, dtype=torch.int64))
        ctx.set_materialize_grads(False)
        return tuple(outs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        call: _Call = ctx.call
        *tensors, handle = ctx.saved_tensors
        _, needs_x, *needs = ctx.needs_input_grad
        given = [None if grad is None else grad.to(torch.float32).contiguous() for grad in grads]
        template = next((grad for grad in given if grad is not None), None)
        if template is None:
            return (None,) * (2 + len(tensors))
        tape = _TAPES.get(int(handle))
        if tape is None:
            raise RuntimeError("a hook on saved tensors has copied what the roll-out keeps, and let it go")
        gx = torch.empty_like(template) if needs_x else None
        results = [
            torch.zeros_like(tensor, memory_format=torch.contiguous_format) if wanted and tensor is not None else None
            for tensor, wanted in zip(tensors, needs, strict=True)
        ]
        names = ("x", "filter", "filter_bias", "full", "full_bias", "w1", "w2", "b1", "b2")
        addresses = map(_address, (gx, *results))
        out = native_library.Gradients(**dict(zip(names, addresses, strict=True)))
        struct, held = call.struct(template, tensors)
        call.library.backward(struct, tape.address, [_address(grad) for grad in given], out)
        del held
        call.take_note(struct)
        return (None, gx, *results)


class _Handle(ctypes.c_int64):
    """Memory of a tensor that autograd saves in place of the tape. Freeing it frees the tape."""


_serials = itertools.count().__next__
_TAPES: dict[int, _Tape] = {}


class _Tape:
    """Memory of the library for a backward pass, freed when autograd frees its saved tensors."""

    def __init__(self, library: NativeLibrary, address: int, handle: _Handle) -> None:
        self.free, self.address = library.free, address
        weakref.finalize(handle, self.give_back, handle.value).atexit = False

    def give_back(self, serial: int) -> None:
        del _TAPES[serial]
        self.free(self.address)


def _masks(job: Job) -> Tensor | None:
    """Return given masks as (T, B, 1, *spatial) contiguous bytes; None for masks from the seed."""
    if job.masks is None:
        return None
    if isinstance(job.masks, Tensor):
        return job.masks[: job.stops[-1]].to(torch.bool).contiguous()
    everywhere = torch.ones(job.x.shape[0], 1, *job.x.shape[2:], dtype=torch.bool)
    fires = [job.fires(t) for t in range(job.start, job.start + job.stops[-1])]
    return torch.stack([everywhere if fire is None else fire for fire in fires])


def _three(sizes: Any) -> Any:
    """Extend the sizes of the spatial axes to depth, height, width."""
    return (ctypes.c_int64 * 3)(*(1,) * (3 - len(sizes)), *sizes)


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().contiguous()


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
