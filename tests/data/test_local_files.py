"""What a local folder may hold under an image's name, and what reading it says."""

import os
import socket
import threading

import pytest

from faceattr.data.stores.local import LocalStore
from faceattr.data.stores.local_files import read_regular_file
from faceattr.data.stores.store import MissingObjectError, RefusedObjectError
from faceattr.errors import StorageError


def test_a_fifo_is_refused_and_does_not_wait_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "photo.jpg")
    errors = []

    def read():
        try:
            read_regular_file(tmp_path / "photo.jpg")
        except RefusedObjectError as error:
            errors.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(5)
    (error,) = errors
    assert error.detail == "a FIFO, not a regular file"
    assert error.is_certain


def test_a_socket_and_a_device_are_refused_through_links_too(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.jpg"))
        with pytest.raises(RefusedObjectError) as error:
            read_regular_file(tmp_path / "s.jpg")
        assert error.value.detail == "a socket, not a regular file"
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    with pytest.raises(RefusedObjectError) as error:
        read_regular_file(tmp_path / "zero.jpg")
    assert error.value.detail == "a character device, not a regular file"


@pytest.mark.parametrize("name", ["loop.jpg", f"{'n' * 300}.jpg"])
def test_a_link_to_itself_and_a_name_that_is_too_long_are_facts_about_the_file(tmp_path, name):
    if len(name) < 255:
        (tmp_path / name).symlink_to(name)
    with pytest.raises(RefusedObjectError) as error:
        LocalStore(tmp_path).get(name)
    assert error.value.is_certain
    assert error.value.detail.startswith(("ELOOP: ", "ENAMETOOLONG: "))
    assert isinstance(error.value, StorageError)  # for all who read a file of their own


def test_a_folder_and_a_file_below_a_file_are_missing(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "file").write_bytes(b"1")
    for name in ("folder.jpg", "file/below.jpg", "nothing.jpg"):
        with pytest.raises(MissingObjectError):
            read_regular_file(tmp_path / name)
    assert read_regular_file(tmp_path / "file") == b"1"
