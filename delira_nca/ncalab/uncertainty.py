"""Names of NCALab's module ``ncalab.uncertainty``."""

from delira_nca.evaluation import MCMC, NQM, UncertaintyEstimator

__all__ = ["MCMC", "NQM", "UncertaintyEstimator"]
