"""Where a server may listen: at an address that is free, and that others reach with a token only."""

import errno
import socket

from faceattr.audit.review.access import is_loopback
from faceattr.errors import ConfigError
from faceattr.jobs.serve.http.bearer import HOW_TO_GET_ONE


def check_host(host: str, token: str | None) -> None:
    """Checks that nobody else can use a server without a token. Raises ConfigError otherwise."""
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"--host {host} can be reached from other machines, so it needs a token: {HOW_TO_GET_ONE}. Or leave "
            "--host out, and forward the port: ssh -L 8000:127.0.0.1:8000 THIS_MACHINE"
        )


def check_free(host: str, port: int) -> None:
    """Checks that nothing listens at an address. Raises ConfigError otherwise."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else a server that has just ended counts
            probe.bind(address)
    except OSError as error:
        reason = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror
        raise ConfigError(f"cannot listen at --host {host} --port {port}: {reason}") from error
