"""Automata in TensorFlow: a Keras model with the weights and random numbers of those in PyTorch."""

from delira_nca.errors import MissingDependencyError

try:
    from delira_nca.models.tf.keras_nca import KerasNCA
    from delira_nca.models.tf.notebook import load_notebook
    from delira_nca.models.tf.tf_network import AbstractTfNetwork
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("keras", "tensorflow"):
        raise
    raise MissingDependencyError("models in TensorFlow need it: pip install 'delira_nca[tf]'") from error

__all__ = ["AbstractTfNetwork", "KerasNCA", "load_notebook"]
