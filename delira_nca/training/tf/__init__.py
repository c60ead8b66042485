"""Training in TensorFlow: the loop, callbacks and run folders of PyTorch's trainer for Keras models."""

from delira_nca.errors import MissingDependencyError

try:
    from delira_nca.training.tf.tf_trainer import TfNetworkTrainer, create_optims_default_tf
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("keras", "tensorflow"):
        raise
    raise MissingDependencyError("training in TensorFlow needs it: pip install 'delira_nca[tf]'") from error

__all__ = ["TfNetworkTrainer", "create_optims_default_tf"]
