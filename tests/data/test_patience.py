"""How long a process waits for a store: to the deadline, and for moments once it is told to stop."""

import threading
import time
import uuid

import pytest

from faceattr.data.runs.lease import hold_lease
from faceattr.data.stores.patience import LEAVING_S, Patience, is_leaving, leave, stay, write_on_the_way_out
from faceattr.data.stores.s3 import S3Store
from faceattr.errors import RunError, StorageError
from tests.fakes.proxy import serve_faults


@pytest.fixture(autouse=True)
def _staying():
    yield
    stay()


@pytest.fixture
def outage(s3):
    """A store behind a proxy that can be switched off, and the switch."""
    with serve_faults(s3.endpoint_url) as proxy:
        yield S3Store(s3.bucket, f"patience/{uuid.uuid4().hex}", endpoint_url=proxy.url, deadline_s=60), proxy


def test_an_operation_is_retried_up_to_its_deadline():
    patience = Patience(0.5)
    started, num = time.monotonic(), 0
    while patience.pause():
        num += 1
    assert num >= 2
    assert time.monotonic() - started <= 0.7


def test_all_threads_stop_waiting_when_the_process_leaves(outage):
    store, proxy = outage
    proxy.outage = True
    errors = []

    def read():
        try:
            store.get("a")
        except StorageError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    started = time.monotonic()
    leave()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started < LEAVING_S + 3
    assert len(errors) == 4
    assert all("could not read s3://faces/patience/" in error for error in errors)


@pytest.mark.parametrize("error", [RunError("the read that failed"), KeyboardInterrupt()])
def test_a_run_that_ends_in_an_outage_does_not_wait_once_more_and_keeps_its_own_error(outage, error):
    store, proxy = outage

    def drive():
        with hold_lease(store, on_lost=pytest.fail):
            proxy.outage = True
            raise error

    started = time.monotonic()
    with pytest.raises(type(error)) as seen:
        drive()
    assert seen.value is error
    assert time.monotonic() - started < LEAVING_S + 5
    assert not is_leaving()


def fail():
    raise StorageError("no answer")


def test_what_is_written_at_the_end_of_a_good_run_raises_its_own_error():
    with pytest.raises(StorageError, match="no answer"):
        write_on_the_way_out(fail, "a note")


def test_what_is_written_at_the_end_of_a_failed_run_does_not_hide_its_error():
    def run():
        try:
            raise RunError("the first error")
        finally:
            write_on_the_way_out(fail, "a note")

    with pytest.raises(RunError, match="the first error"):
        run()
