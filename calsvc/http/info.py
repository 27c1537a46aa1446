"""What `/info` tells: what is serving, since when, and on what. No secret, no environment but the thread caps."""

from functools import cache
from typing import Any, Final

from calsvc import __version__
from calsvc.model.bundle import encode_manifest, sha256
from calsvc.model.scorer import ONNX_THREADS
from calsvc.model.threads import available_cpus, threads_in_force
from calsvc.registry.serving import ServingModel
from calsvc.service import Service
from observability.provenance import git_sha, library_versions

LIBRARIES: Final = ("msgspec", "numpy", "onnxruntime", "opentelemetry-sdk", "starlette", "uvicorn")


def describe(service: Service) -> dict[str, Any]:
    """Return the content of `/info`; `model` is null while none is loaded, `challenger` while there is none."""
    return {
        "service": {"name": "calsvc", "version": __version__, "git_sha": git_sha()},
        "phase": service.lifecycle.phase.value,
        "model": _model(service.champion) | {"previous_version": service.previous_version}
        if service.champion
        else None,
        "challenger": _model(service.challenger) if service.challenger else None,
        "threads": {
            "cpus": available_cpus(),
            "cpu_fraction": service.settings.cpu_fraction,
            "onnxruntime": ONNX_THREADS,
            **threads_in_force(),
        },
        "limits": {
            "in_flight": service.in_flight.limit,
            "pending": service.settings.max_pending,
        },
        "libraries": _libraries(),
    }


def _model(model: ServingModel) -> dict[str, Any]:
    manifest, registered = model.bundle.manifest, model.origin.version
    return {
        "version": manifest.model_version,
        "timestamp": manifest.created_at,
        "serving_since": model.since,
        "engine": model.engine,
        "trees": manifest.trees,
        "target_transform": manifest.target.transform,
        "feature_names": manifest.feature_names,
        "training_metrics": manifest.training_metrics,
        "parity": manifest.parity,
        "bundle_sha256": sha256(encode_manifest(manifest)),
        "handout_sha256": manifest.handout_sha256,
        "git_sha": manifest.git_sha,
        "mlflow_run_id": manifest.mlflow_run_id,
        "alias": model.origin.alias,
        "registered_version": registered.version if registered else None,
        "trained_with": manifest.libraries,
    }


@cache
def _libraries() -> dict[str, str]:
    return library_versions(LIBRARIES)
