"""Checkpoints, locks and files that stay intact when a process is killed."""

from delira_nca._lazy import lazy_names

_HOMES = {
    "Manifest": "manifest",
    "ManifestEntry": "manifest",
    "ResumePlan": "resume",
    "RunLock": "run_lock",
    "checkpoint_bytes": "checkpoint",
    "claim_folder": "run_folder",
    "describe_network": "network",
    "load_checkpoint": "checkpoint",
    "load_network": "network",
    "plan_resume": "resume",
    "replaced": "files",
    "require_disk_space": "files",
    "save_checkpoint": "checkpoint",
    "save_network": "network",
    "sweep": "files",
    "verify_checkpoint": "checkpoint",
    "write_environment": "run_folder",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
