"""All sources by name: those in packages, and those that are computed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from delira_nca.data_loading.sources import synthetic
from delira_nca.data_loading.sources.brains import BRAINS
from delira_nca.data_loading.sources.pictures import PICTURES
from delira_nca.data_loading.sources.source import ArraySpec, Source

__all__ = ["SOURCES"]


def _computed(name: str, summary: str) -> Source:
    return Source(
        name=name,
        summary=summary,
        package=None,
        files=(),
        arrays=(
            ArraySpec("data", ("num_samples", 1, "*shape"), "float32", "brightness, 0 to 1"),
            ArraySpec("label", ("num_samples", 1, "*shape"), "uint8", "1 inside, 0 outside"),
        ),
        licence="MIT (of delira_nca)",
        citation="none needed",
        decode=getattr(synthetic, name),
        note="A function of the seed; give a shape of three lengths for pictures in 3D.",
    )


_COMPUTED = (
    _computed("discs", "computed discs or balls with exact masks"),
    _computed("blobs", "computed blobs with exact masks"),
    _computed("vessels", "computed vessels with exact masks"),
)

SOURCES: Mapping[str, Source] = MappingProxyType({source.name: source for source in (*PICTURES, *BRAINS, *_COMPUTED)})
"""Every source by its name, targets first."""
