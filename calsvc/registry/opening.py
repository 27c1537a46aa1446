"""Which client speaks to which kind of registry."""

from calsvc.http.errors import RegistryError
from calsvc.registry.client import Credentials, Deadlines, Registry
from observability.addresses import scheme_of


def open_registry(
    uri: str,
    credentials: Credentials = Credentials(),  # noqa: B008 - immutable
    deadlines: Deadlines = Deadlines(),  # noqa: B008
) -> Registry:
    """Return the registry at a tracking URI. Nothing is asked of it yet.

    Raises:
        RegistryError: no registry can have this URI.
    """
    # Imported by need: an HTTP client takes a tenth of a second to load, which a service without a registry saves.
    if uri.startswith("sqlite:///"):
        from calsvc.registry.local import LocalStore  # noqa: PLC0415

        return LocalStore(uri, deadlines)
    if uri.startswith(("http://", "https://")):
        from calsvc.registry.mlflow_rest import MlflowRest  # noqa: PLC0415

        return MlflowRest(uri, credentials, deadlines)
    raise RegistryError(f"{scheme_of(uri)} is no model registry: expected http://..., https://... or sqlite:///PATH")
