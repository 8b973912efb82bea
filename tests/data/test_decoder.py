"""Isolated decoding: real children that crash, hang, starve and die, and what the parent makes of it."""

import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceattr.config import ImageLimitsConfig
from faceattr.data.images.decode import decode_image
from faceattr.data.images.decoder import IsolatedDecoder, process_decoder
from faceattr.errors import ConfigError, ImageError, RunError

LIMITS = ImageLimitsConfig(max_bytes=4 * 2**20, max_pixels=4_000_000)


def encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def draw(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


JPEGS = [encode(draw(seed, 20 + seed), "JPEG") for seed in range(6)]


@pytest.fixture(scope="module")
def decoder() -> Iterator[IsolatedDecoder]:
    with IsolatedDecoder(LIMITS) as made:
        yield made


def build_command(tmp_path: Path, sabotage: str) -> list[str]:
    """A real child whose `decode_image` first does what `sabotage` says; `data` is the image."""
    script = tmp_path / "sabotaged_child.py"
    script.write_text(
        "import ctypes, os, signal, sys, time\n"
        "from faceattr.data.images import decoder_child\n"
        "genuine = decoder_child.decode_image\n"
        "def decode_image(data, limits, **options):\n"
        f"{textwrap.indent(textwrap.dedent(sabotage), '    ')}\n"
        "    return genuine(data, limits, **options)\n"
        "decoder_child.decode_image = decode_image\n"
        "decoder_child.main(sys.argv[1:])\n"
    )
    return [sys.executable, str(script)]


def count_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pid: int, timeout_s: float = 10) -> None:
    deadline_s = time.monotonic() + timeout_s
    while is_running(pid):
        assert time.monotonic() < deadline_s, f"process {pid} is still there"
        time.sleep(0.01)


def test_pixels_and_reasons_equal_those_without_isolation(decoder: IsolatedDecoder) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    usable = [
        *JPEGS,
        encode(draw(1), "JPEG", exif=exif),
        encode(draw(2), "PNG"),
        encode(draw(3).convert("CMYK"), "JPEG"),
        encode(draw(4).convert("L"), "JPEG"),
        encode(draw(5), "AVIF"),
    ]
    unusable = [b"", b"<html>", JPEGS[0][:-5], bytes(LIMITS.max_bytes + 1), encode(draw(1, 2500, 2000), "PNG")]
    images = [image for pair in zip(usable, unusable * 3, strict=False) for image in pair] * 30
    assert len(images) > 2 * 127
    for data, found in zip(images, decoder.decode_batch(images), strict=True):
        try:
            expected = decode_image(data, LIMITS)
        except ImageError as error:
            assert isinstance(found, ImageError)
            assert (found.reason, found.detail) == (error.reason, error.detail)  # noqa: PT017
        else:
            np.testing.assert_array_equal(found, expected)


def test_results_are_owned_by_the_caller(decoder: IsolatedDecoder) -> None:
    first = decoder.decode(JPEGS[0])
    before = first.copy()
    decoder.decode(JPEGS[1])
    np.testing.assert_array_equal(first, before)
    assert first.flags.writeable


def test_an_image_error_is_raised_and_costs_no_child(decoder: IsolatedDecoder) -> None:
    decoder.decode(JPEGS[0])
    pid = decoder.child_pid
    with pytest.raises(ImageError) as caught:
        decoder.decode(JPEGS[0][:-3])
    assert caught.value.reason == "truncated"
    assert decoder.child_pid == pid
    assert decoder.decode_batch([]) == []


def test_images_at_the_limits_and_batches_beyond_the_shared_memory(decoder: IsolatedDecoder) -> None:
    largest = encode(Image.new("RGB", (2000, 2000), (1, 2, 3)), "JPEG", quality=100, subsampling=0)
    found = decoder.decode_batch([largest, JPEGS[0], largest, largest])
    expected = decode_image(largest, LIMITS)
    for index in (0, 2, 3):
        np.testing.assert_array_equal(found[index], expected)
    padded = JPEGS[0] + bytes(LIMITS.max_bytes - len(JPEGS[0]))
    np.testing.assert_array_equal(decoder.decode(padded), decode_image(JPEGS[0], LIMITS))


def test_a_tiny_limit_leaves_room_for_reasons() -> None:
    with IsolatedDecoder(ImageLimitsConfig(max_bytes=100, max_pixels=1)) as small, pytest.raises(ImageError) as caught:
        small.decode(b"<html>")
    assert caught.value.reason == "not_an_image"


def test_a_child_killed_between_images_is_replaced(decoder: IsolatedDecoder) -> None:
    decoder.decode(JPEGS[0])
    pid = decoder.child_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    np.testing.assert_array_equal(decoder.decode(JPEGS[1]), decode_image(JPEGS[1], LIMITS))
    assert decoder.child_pid != pid


def test_a_child_killed_while_it_decodes_is_replaced(tmp_path: Path) -> None:
    flag = tmp_path / "began"
    sabotage = f"""
        if not os.path.exists({str(flag)!r}):
            open({str(flag)!r}, "w").write(str(os.getpid()))
            time.sleep(60)
    """

    def kill_once_begun() -> None:
        while not (flag.exists() and flag.read_text()):
            time.sleep(0.01)
        os.kill(int(flag.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill_once_begun)
    killer.start()
    with IsolatedDecoder(LIMITS, command=build_command(tmp_path, sabotage)) as made:
        np.testing.assert_array_equal(made.decode(JPEGS[0]), decode_image(JPEGS[0], LIMITS))
    killer.join()


@pytest.mark.parametrize(
    ("sabotage", "detail"),
    [
        ("ctypes.string_at(0)", "SIGSEGV"),
        ("os._exit(3)", "status 3"),
        ("raise MemoryError", "ran out of its 2048 MiB"),
    ],
)
def test_an_image_that_crashes_twice_is_given_up_alone(tmp_path: Path, sabotage: str, detail: str) -> None:
    command = build_command(tmp_path, f"if data == {JPEGS[3]!r}: {sabotage}")
    with IsolatedDecoder(LIMITS, command=command) as made:
        found = made.decode_batch(JPEGS)
    for index, data in enumerate(JPEGS):
        outcome = found[index]
        if index == 3:
            assert isinstance(outcome, ImageError)
            assert outcome.reason == "decoder_crashed"
            assert detail in outcome.detail
        else:
            np.testing.assert_array_equal(outcome, decode_image(data, LIMITS))


def test_an_image_that_hangs_twice_is_given_up_alone(tmp_path: Path) -> None:
    command = build_command(tmp_path, f"if data == {JPEGS[1]!r}: time.sleep(60)")
    with IsolatedDecoder(LIMITS, deadline_s=0.3, command=command) as made:
        begin_s = time.monotonic()
        found = made.decode_batch(JPEGS[:3])
        assert time.monotonic() - begin_s < 8
        assert isinstance(found[1], ImageError)
        assert found[1].reason == "decoder_timeout"
        np.testing.assert_array_equal(found[0], decode_image(JPEGS[0], LIMITS))
        np.testing.assert_array_equal(found[2], decode_image(JPEGS[2], LIMITS))


def test_the_deadline_is_for_each_image_and_not_for_the_batch(tmp_path: Path) -> None:
    command = build_command(tmp_path, "time.sleep(0.15)")
    with IsolatedDecoder(LIMITS, deadline_s=0.6, command=command) as made:
        assert not any(isinstance(outcome, ImageError) for outcome in made.decode_batch(JPEGS))


def test_memory_is_limited() -> None:
    limits = ImageLimitsConfig(max_pixels=40_000_000)
    data = encode(Image.new("RGBA", (6000, 6000)), "PNG", compress_level=1)
    with IsolatedDecoder(limits, memory_bytes=200 * 2**20) as made:
        with pytest.raises(ImageError) as caught:
            made.decode(data)
        assert caught.value.reason == "decoder_crashed"
        assert "ran out of its 200 MiB" in caught.value.detail
        np.testing.assert_array_equal(made.decode(JPEGS[0]), decode_image(JPEGS[0], limits))


@pytest.mark.parametrize("arguments", [["-c", "raise SystemExit(5)"], ["-c", "import os; os.write(4, b'x')"]])
def test_a_child_that_cannot_start_blames_no_image(arguments: list[str]) -> None:
    with IsolatedDecoder(LIMITS, command=[sys.executable, *arguments]) as made, pytest.raises(RunError):
        made.decode(JPEGS[0])


def test_a_missing_interpreter_blames_no_image() -> None:
    with IsolatedDecoder(LIMITS, command=["/no/such/python"]) as made, pytest.raises(RunError, match="cannot be start"):
        made.decode(JPEGS[0])


def test_an_interrupted_call_leaves_no_stale_answer(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise InterruptedError

    command = build_command(tmp_path, f"if data == {JPEGS[0]!r}: time.sleep(0.5)")
    with IsolatedDecoder(LIMITS, command=command) as made:
        made.decode(JPEGS[1])
        previous = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(InterruptedError):
                made.decode(JPEGS[0])
        finally:
            signal.signal(signal.SIGALRM, previous)
        np.testing.assert_array_equal(made.decode(JPEGS[2]), decode_image(JPEGS[2], LIMITS))


def test_threads_share_a_decoder_and_may_end_while_others_use_it() -> None:
    expected = [decode_image(data, LIMITS) for data in JPEGS[:4]]
    failures: list[BaseException] = []

    def work(made: IsolatedDecoder, index: int, count: int) -> None:
        try:
            for _ in range(count):
                assert np.array_equal(made.decode(JPEGS[index]), expected[index])
        except BaseException as error:  # noqa: BLE001 - a thread's error is nobody's
            failures.append(error)

    with IsolatedDecoder(LIMITS) as made:
        # The first one starts the child, and ends while the others are at work.
        threads = [threading.Thread(target=work, args=(made, index, 5 + 60 * (index > 0))) for index in range(4)]
        for thread in threads:
            thread.start()
        threads[0].join()
        pid = made.child_pid
        for thread in threads:
            thread.join()
        assert made.child_pid == pid
    assert failures == []


def test_restarts_leak_neither_descriptors_nor_zombies(tmp_path: Path) -> None:
    command = build_command(tmp_path, f"if data == {JPEGS[0]!r}: os._exit(1)")
    before = count_fds()
    pids = []
    made = IsolatedDecoder(LIMITS, command=command)
    for _ in range(5):
        made.decode(JPEGS[1])
        pids.append(made.child_pid)
        with pytest.raises(ImageError, match="decoder_crashed"):
            made.decode(JPEGS[0])
    made.decode(JPEGS[1])
    pids.append(made.child_pid)
    made.close()
    made.close()
    assert count_fds() == before
    assert made.child_pid is None
    assert not any(pid is not None and Path(f"/proc/{pid}").exists() for pid in pids)
    with pytest.raises(RuntimeError, match="closed"):
        made.decode(JPEGS[0])


def test_the_child_dies_with_its_parent_even_while_it_hangs(tmp_path: Path) -> None:
    command = build_command(tmp_path, f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(100)")
    program = (
        "from faceattr.data.images.decoder import IsolatedDecoder\n"
        f"IsolatedDecoder(deadline_s=100, command={command!r}).decode({JPEGS[0]!r})\n"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as parent:
        pid_path = tmp_path / "pid"
        deadline_s = time.monotonic() + 30
        while not (pid_path.exists() and pid_path.read_text()):
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        pid = int(pid_path.read_text())
        assert is_running(pid)
        parent.kill()
    wait_until_gone(pid)


def test_a_child_whose_parent_is_already_gone_ends_at_once() -> None:
    read_fd, write_fd = os.pipe()
    memory_fd = os.memfd_create("test")
    os.ftruncate(memory_fd, 2**20)
    # Process 1 stands for a parent that died before the child could ask to be told.
    numbers = [read_fd, write_fd, memory_fd, 1, 2**30, 4096, 4096]
    command = [sys.executable, "-m", "faceattr.data.images.decoder_child", *map(str, numbers)]
    try:
        done = subprocess.run(command, pass_fds=(read_fd, write_fd, memory_fd), timeout=20, check=False)
        assert done.returncode == 0
    finally:
        for descriptor in (read_fd, write_fd, memory_fd):
            os.close(descriptor)


def test_the_child_is_light_and_gets_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-pass-on")
    with IsolatedDecoder(LIMITS) as made:
        made.decode(JPEGS[0])
        assert b"do-not-pass-on" not in Path(f"/proc/{made.child_pid}/environ").read_bytes()
        limits = Path(f"/proc/{made.child_pid}/limits").read_text()
        assert "Max core file size        0                    0" in limits
        assert "Max address space         unlimited" not in limits
    code = "import sys, faceattr.data.images.decoder_child; print({'torch', 'ray'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code]) == b"set()\n"


def test_a_process_has_one_decoder_for_each_set_of_limits() -> None:
    first = process_decoder(LIMITS, deadline_s=20)
    assert process_decoder(LIMITS, deadline_s=20) is first
    assert process_decoder(LIMITS, deadline_s=21) is not first
    first.decode(JPEGS[0])
    pid = os.fork()
    if pid == 0:  # in the forked process: another decoder, and the original's child left alone
        try:
            other = process_decoder(LIMITS, deadline_s=20)
            first.close()
            same = np.array_equal(other.decode(JPEGS[1]), decode_image(JPEGS[1], LIMITS))
            other.close()
            os._exit(0 if same and other is not first else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    child_pid = first.child_pid
    first.decode(JPEGS[0])
    assert first.child_pid == child_pid
    first.close()


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError):
        IsolatedDecoder(LIMITS, deadline_s=0)
    with pytest.raises(ConfigError):
        IsolatedDecoder(LIMITS, memory_bytes=0)


def test_one_by_one_large_pictures_in_small_files_are_not_in_memory_together():
    """Twelve pictures of 4 million pixels, 12 MB each, whose files have a few KB."""
    files = [encode(Image.new("RGB", (2_000, 2_000), (seed, 0, 0)), "PNG") for seed in range(12)]
    with IsolatedDecoder(LIMITS) as decoder:
        decoder.decode(files[0])
        tracemalloc.start()
        reds = []
        for pixels in decoder.decode_each(files):
            assert not isinstance(pixels, ImageError)
            reds.append(int(pixels[0, 0, 0]))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert reds == list(range(12))
    assert peak < 3 * 12_000_000
