"""Runs with a name."""

from delira_nca.experiment.grow import REGIMES, GrowConfig, GrowResult, Regime, grow

__all__ = ["REGIMES", "GrowConfig", "GrowResult", "Regime", "grow"]
