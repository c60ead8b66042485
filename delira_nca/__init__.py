"""A callback-based trainer framework for Neural Cellular Automata on PyTorch."""

from delira_nca._version import __version__

__all__ = ["__version__"]
