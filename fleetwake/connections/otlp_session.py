"""The HTTP session of the exporter of spans, in a module of its own because only processes that export import requests."""

from __future__ import annotations

from typing import Any

import requests


class OtlpSession(requests.Session):
    """A session whose own CA counts: requests lets REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE in the environment win over it."""

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """As the library's, with the session's CA in the place of none."""
        return super().merge_environment_settings(url, proxies, stream, self.verify if verify is None else verify, cert)
