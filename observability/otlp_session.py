"""The HTTP session of the OTLP exporter."""

from typing import Any

import requests


class OtlpSession(requests.Session):
    """Lets OTEL_EXPORTER_OTLP_CERTIFICATE go before REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE.

    In requests the environment goes before what a session was given (psf/requests#3829).
    """

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> dict[str, Any]:
        """See `requests.Session.merge_environment_settings`."""
        merged: dict[str, Any] = super().merge_environment_settings(
            url, proxies, stream, self.verify if verify is None else verify, cert
        )
        return merged
