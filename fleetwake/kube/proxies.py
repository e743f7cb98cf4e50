"""Through which proxy an API server is reached, if any: a kubeconfig's ``proxy-url``, else the environment, minus what NO_PROXY names.

Source: kubectl and client-go (proxy-url wins over the environment and ignores NO_PROXY); golang.org/x/net/http/httpproxy (rules of NO_PROXY, loopback is
always direct).
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

SCHEMES = ("http", "https")


def proxy_of(server: str, proxy_url: str, environment: str, no_proxy: str) -> str:
    """The proxy's URL, "" to connect directly. ``environment`` is what the environment names for the server's scheme.

    Raises:
        ValueError: the proxy is none that can be used; the message repeats no credentials.
    """
    found = proxy_url or ("" if bypasses(server, no_proxy) else environment)
    if not found:
        return ""
    parts = urlsplit(found if "://" in found else f"http://{found}")
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ValueError(f"a proxy of scheme {parts.scheme!r} cannot be used; give an http or https URL")
    return parts.geturl()


def bypasses(server: str, no_proxy: str) -> bool:
    """Whether a server is reached directly by NO_PROXY: names with their subdomains, addresses, networks, each with a port or without; ``*`` for all."""
    parts = urlsplit(server)
    host, port = (parts.hostname or "").rstrip(".").lower(), parts.port or (443 if parts.scheme == "https" else 80)
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_matches(entry.strip().lower(), host, port, address) for entry in no_proxy.split(",") if entry.strip())


def _matches(entry: str, host: str, port: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, wanted_port = entry, ""
    if _address(entry.strip("[]")) is None:
        head, colon, tail = entry.rpartition(":")
        if colon and tail.isdigit():
            name, wanted_port = head, tail
    if wanted_port and int(wanted_port) != port:
        return False
    name = name.strip("[]")
    if _address(name) is not None:
        return address == _address(name)
    bare = name.removeprefix("*").removeprefix(".")
    # a leading dot stands for subdomains alone
    return host.endswith(f".{bare}") or (host == bare and not name.startswith((".", "*")))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
