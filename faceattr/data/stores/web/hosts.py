"""Which web addresses may be read: of hosts that are named, at addresses of the public internet.

A list of images comes from anywhere, and a worker can often reach what its author cannot: services of the cluster, the
cloud's own address for credentials. So the host must be named by `--storage.allow-http`, and what its name resolves to
must be public; the connection then goes to the address that was checked, since a second look-up could give another.
An address that is itself named, such as 127.0.0.1:8000, is meant as such.
"""

import functools
import ipaddress
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass

import urllib3
from urllib3.exceptions import LocationParseError

from faceattr.errors import ConfigError, StorageError

_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOOK_UP_S = 60
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, kw_only=True, slots=True)
class WebAddress:
    """A parsed http or https address.

    Attributes:
        scheme: `http` or `https`.
        host: in lower case, without brackets.
        port: its port, or the scheme's.
        target: path and query as they are requested, percent-encoded.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Host, in brackets if it is an IPv6 address, and the port unless it is the scheme's: the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def root(self) -> str:
        """Address of the server."""
        return f"{self.scheme}://{self.authority}"

    @property
    def entry(self) -> str:
        """What allows it in `--storage.allow-http`."""
        return self.authority

    def is_allowed(self, hosts: Collection[str]) -> bool:
        """Whether the host is named; without a port it is allowed at the ports of http and https."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        named = {host.lower() for host in hosts}
        return f"{name}:{self.port}" in named or (self.port in _PORTS.values() and name in named)


def is_web(uri: str) -> bool:
    """Whether an address is one of http or https."""
    return uri[:8].lower().startswith(("http://", "https://"))


def parse_web(uri: str) -> WebAddress:
    """Parses an http or https address.

    Raises:
        ConfigError: it is none.
    """
    try:
        url = urllib3.util.parse_url(uri)
    except LocationParseError as error:
        raise ConfigError(f"{uri!r} is no web address") from error
    if url.scheme not in _PORTS or not url.host:
        raise ConfigError(f"{uri!r} is no web address; expected https://HOST/PATH")
    return WebAddress(
        scheme=url.scheme,
        host=url.host.strip("[]").lower(),
        port=url.port or _PORTS[url.scheme],
        target=url.request_uri or "/",
    )


def check_allowed(address: WebAddress, hosts: Collection[str]) -> None:
    """Raises ConfigError if the host is not named."""
    if not address.is_allowed(hosts):
        named = ", ".join(hosts) or "none"
        raise ConfigError(
            f"images of the web are read from hosts that are named; {address.entry} is not (named: {named}). If it may "
            f"be read, add --storage.allow-http {address.entry}"
        )


def resolve_host(address: WebAddress) -> list[str]:
    """Returns the addresses to connect to. One that is written in the web address itself is returned as it is.

    Raises:
        StorageError: one of them is not public.
        OSError: the name cannot be resolved now.
    """
    if _parse(address.host) is not None:
        return [address.host]
    found = _look_up(address.host, address.port, int(time.monotonic()) // _LOOK_UP_S)
    for text in found:
        if not is_public(text):
            raise StorageError(
                f"{address.host} has the address {text}, which is not of the public internet. If images are to be read "
                f"there, name the address itself: in their URLs, and by --storage.allow-http"
            )
    return list(found)


def is_public(text: str) -> bool:
    """Whether an IP address is one of the public internet; of one that stands for an IPv4 address, that address."""
    address = _parse(text)
    if address is None:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast and not address.is_reserved


def _parse(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


@functools.lru_cache(maxsize=1_024)
def _look_up(host: str, port: int, _minute: int) -> tuple[str, ...]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
