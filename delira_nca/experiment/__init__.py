"""Runs with a name."""

from delira_nca.experiment.export_run import export_html
from delira_nca.experiment.grow import GrowResult, grow, resume_growing
from delira_nca.experiment.grow_config import REGIMES, GrowConfig, Regime

__all__ = ["REGIMES", "GrowConfig", "GrowResult", "Regime", "export_html", "grow", "resume_growing"]
