"""What Ray would say late or by a traceback is one line, in seconds, before it is started."""

import socket
import time

import pytest

from faceattr.errors import ConfigError, FaceattrError, RunError
from faceattr.jobs.cluster.machines.surroundings import check_surroundings


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """A short folder for Ray and a home that can be written, as they should be."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    check_surroundings(None)


def refuse(address=None):
    started = time.monotonic()
    with pytest.raises(FaceattrError) as error:
        check_surroundings(address)
    assert time.monotonic() - started < 10
    assert "\n" not in str(error.value)
    return error.value


def closed_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "localhost:{}", "[::1]:{}"])
def test_an_address_at_which_nothing_listens(form):
    address = form.format(closed_port())
    error = refuse(address)
    assert isinstance(error, RunError)
    assert f"no Ray cluster answers at RAY_ADDRESS {address}" in str(error)


def test_a_host_that_does_not_exist():
    assert "RAY_ADDRESS no-such-host.invalid:6379" in str(refuse("no-such-host.invalid:6379"))


@pytest.mark.parametrize("address", ["localhost", "http://127.0.0.1:8265", "127.0.0.1:port", "a b:1"])
def test_an_address_of_another_form(address):
    error = refuse(address)
    assert isinstance(error, ConfigError)
    assert "expected host:port" in str(error)


def test_the_address_that_a_dead_cluster_left_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{closed_port()}\n")
    assert "RAY_ADDRESS auto (127.0.0.1:" in str(refuse("auto"))


def test_an_address_that_answers_is_left_to_ray():
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_surroundings(f"127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_a_folder_too_long_for_sockets(name, monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setenv(name, f"/tmp/{'x' * 60}")
    error = refuse()
    assert isinstance(error, ConfigError)
    assert str(error).startswith(f"{name} /tmp/xxx")
    assert "expected at most" in str(error)


@pytest.mark.parametrize("name", ["HOME", "RAY_TMPDIR"])
def test_a_folder_that_cannot_be_written(name, monkeypatch):
    monkeypatch.setenv(name, "/proc/no")
    assert str(refuse()).startswith(f"{name} /proc/no: expected a folder that can be written")


def test_a_home_that_ray_does_not_need_may_be_read_only(monkeypatch):
    monkeypatch.setenv("HOME", "/proc/no")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    check_surroundings(None)
