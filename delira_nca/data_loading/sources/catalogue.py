"""Catalogue of all sources by name, from packages or computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from delira_nca.data_loading.sources import synthetic
from delira_nca.data_loading.sources.brains import BRAINS
from delira_nca.data_loading.sources.drawings import DRAWINGS, drawing
from delira_nca.data_loading.sources.pictures import PICTURES, TARGET
from delira_nca.data_loading.sources.scenes import scenes
from delira_nca.data_loading.sources.source import Arrays, ArraySpec, Source

__all__ = ["SOURCES"]


def _drawing(*, picture: str = "lizard", size: int = 40) -> Arrays:
    return {"data": drawing(picture, size)}


def _computed(decode: Callable[..., Arrays], summary: str, arrays: tuple[ArraySpec, ...], note: str) -> Source:
    return Source(
        name=decode.__name__.lstrip("_"),
        summary=summary,
        package=None,
        files=(),
        arrays=arrays,
        licence="MIT (of delira_nca)",
        citation="none needed",
        decode=decode,
        note=note,
    )


_MASKED = (
    ArraySpec("data", ("num_samples", 1, "*shape"), "float32", "brightness, 0 to 1"),
    ArraySpec("label", ("num_samples", 1, "*shape"), "uint8", "1 inside, 0 outside"),
)
_DEEP = (
    ArraySpec("data", ("num_samples", 3, "*shape"), "float32", "red, green and blue, 0 to 1"),
    ArraySpec("label", ("num_samples", 1, "*shape"), "float32", "depth, as a part of 10 m"),
)
_NOTE = "A function of the seed; give a shape of three lengths for pictures in 3D."
_TARGETS = (
    _computed(
        _drawing,
        "a drawing on a transparent ground, a target to grow",
        TARGET,
        f"Pictures: {', '.join(DRAWINGS[:-1])}; also dahlia, which is cut out of a photograph.",
    ),
)
_COMPUTED = (
    _computed(synthetic.discs, "computed discs or balls with exact masks", _MASKED, _NOTE),
    _computed(synthetic.blobs, "computed blobs with exact masks", _MASKED, _NOTE),
    _computed(synthetic.vessels, "computed vessels with exact masks", _MASKED, _NOTE),
    _computed(scenes, "computed balls on a floor with exact depth", _DEEP, "A function of the seed."),
)

SOURCES: Mapping[str, Source] = MappingProxyType(
    {source.name: source for source in (*_TARGETS, *PICTURES, *BRAINS, *_COMPUTED)}
)
"""Sources by name, beginning with targets."""
