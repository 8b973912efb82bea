"""The memory that a decoder and its child share."""

import os
import subprocess
import sys
import time

from faceattr.config import ImageLimitsConfig
from faceattr.data.images.decoder_child import SharedExchange

LIMITS = ImageLimitsConfig(max_bytes=4_096, max_pixels=64)
WRITER = """
import sys, time
from faceattr.config import ImageLimitsConfig
from faceattr.data.images.decoder_child import SharedExchange
exchange = SharedExchange(int(sys.argv[1]), ImageLimitsConfig(max_bytes=4_096, max_pixels=64))
until = time.monotonic() + 0.5
while time.monotonic() < until:
    exchange.write_state(0)
    exchange.write_state(127)
"""


def test_a_state_that_is_read_while_it_is_written_is_no_mixture_of_two():
    """Half of an old time and half of a new one were a time long past: such a child seemed to hang."""
    memory_fd = os.memfd_create("exchange")
    os.ftruncate(memory_fd, SharedExchange.compute_size(LIMITS))
    exchange = SharedExchange(memory_fd, LIMITS)
    begin = time.monotonic()
    exchange.write_state(0)
    seen = set()
    with subprocess.Popen([sys.executable, "-c", WRITER, str(memory_fd)], pass_fds=[memory_fd]) as writer:
        while writer.poll() is None:
            num_done, begun_s = exchange.read_state()
            assert begin <= begun_s <= time.monotonic()
            assert num_done in (0, 127)
            seen.add(begun_s)
    assert writer.returncode == 0
    assert len(seen) > 10  # both worked at the same time
    exchange.close()
    os.close(memory_fd)
