"""A store: can it be listed, read and written, does it create an object only once, and is its clock ours?"""

import time
import uuid
from collections.abc import Iterator

from faceattr.config import StorageConfig
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.open import open_output, open_store, probe_store
from faceattr.data.stores.patience import write_on_the_way_out
from faceattr.data.stores.ranged import open_ranged
from faceattr.data.stores.store import Store
from faceattr.errors import FaceattrError
from faceattr.jobs.doctor.findings import Finding

# A lease that is older than half a minute counts as abandoned; clocks further apart than this could mislead a reader.
_MOST_SKEW_S = 10.0
_PROBE_BYTES = b"0123456789"


def judge_images(uri: str, storage: StorageConfig) -> Iterator[Finding]:
    """Lists a folder of images, and reads the first object."""
    try:
        store = open_store(uri, storage)
        first = next(iter(store.list()), None)
        if first is None:
            yield Finding(subject="images", found=f"{store.uri} is empty", remedy="Is this the right address?")
            return
        data = store.get(first.key, listed=first)
    except FaceattrError as error:
        yield _failed("images", error)
        return
    yield Finding(subject="images", found=f"{store.uri} is listed and read: {first.key}, {len(data):,} bytes")


def judge_output(uri: str, storage: StorageConfig) -> Iterator[Finding]:
    """Writes, lists, reads and deletes an object, tries conditional writes, and compares the clocks."""
    try:
        store = open_output(uri, storage)
        probe_store(store)
    except FaceattrError as error:
        yield _failed("output", error)
        return
    yield Finding(subject="output", found=f"{store.uri} is written, and an object that exists is not created again")
    key = f"_doctor-{uuid.uuid4().hex}"
    try:
        before = time.time()
        store.put(key, _PROBE_BYTES)
        after = time.time()
    except FaceattrError as error:
        yield _failed("output", error)
        return
    try:
        yield _judge_ranges(store, key, storage)
        yield judge_clock(store, key, before, after)
    except FaceattrError as error:
        yield _failed("output", error)
    finally:
        write_on_the_way_out(lambda: store.delete(key), f"the removal of {key}")


def _judge_ranges(store: Store, key: str, storage: StorageConfig) -> Finding:
    with open_ranged(join_uri(store.uri, key), storage) as file:
        file.seek(3)
        found = file.read(4)
    right = found == _PROBE_BYTES[3:7]
    remedy = None if right else "Reading parts of Parquet files needs ranged reads; use another store"
    return Finding(subject="ranges", found=f"4 bytes from the middle of an object are {found!r}", remedy=remedy)


def judge_clock(store: Store, key: str, before: float, after: float) -> Finding:
    """Compares the store's time of an object with the Unix times in seconds before and after it was written."""
    entry = next((each for each in store.list(key) if each.key == key), None)
    if entry is None:
        found = f"{store.uri} does not list an object that was just written"
        return Finding(subject="listing", found=found, remedy="Use a store with consistent listings")
    # Stores round to seconds.
    skew = 0.0 if before - 1 <= entry.modified_s <= after + 1 else entry.modified_s - after
    return Finding(
        subject="clock",
        found=f"the store's is {abs(skew):.0f} s from this machine's",
        remedy="Set this machine's clock (chrony, ntpd)" if abs(skew) > _MOST_SKEW_S else None,
    )


def _failed(subject: str, error: FaceattrError) -> Finding:
    return Finding(subject=subject, found=str(error), remedy="See above, then call faceattr doctor again")
