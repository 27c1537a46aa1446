"""What `/info` tells: what is serving, since when, and on what. No secret, no environment but the thread caps."""

from functools import cache
from typing import Any, Final

from calsvc import __version__
from calsvc.provenance import git_sha, library_versions
from calsvc.service import Service, ServingModel
from calsvc.settings import available_cpus, threads_in_force

LIBRARIES: Final = ("msgspec", "numpy", "onnxruntime", "opentelemetry-sdk", "starlette", "uvicorn")


def describe(service: Service) -> dict[str, Any]:
    """Return the content of `/info`; `model` is null while none is loaded."""
    return {
        "service": {"name": "calsvc", "version": __version__, "git_sha": git_sha()},
        "phase": service.lifecycle.phase.value,
        "model": _model(service.model) if service.model else None,
        "threads": {"cpus": available_cpus(), "cpu_fraction": service.settings.cpu_fraction, **threads_in_force()},
        "libraries": _libraries(),
    }


def _model(model: ServingModel) -> dict[str, Any]:
    manifest = model.bundle.manifest
    return {
        "version": manifest.model_version,
        "timestamp": manifest.created_at,
        "engine": model.scorer.engine,
        "trees": manifest.trees,
        "target_transform": manifest.target.transform,
        "feature_names": manifest.feature_names,
        "training_metrics": manifest.training_metrics,
        "parity": manifest.parity,
        "handout_sha256": manifest.handout_sha256,
        "git_sha": manifest.git_sha,
        "mlflow_run_id": manifest.mlflow_run_id,
        "alias": None,
        "trained_with": manifest.libraries,
    }


@cache
def _libraries() -> dict[str, str]:
    return library_versions(LIBRARIES)
