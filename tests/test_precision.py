"""The precision of a device, from its capability; which CPUs emulate bfloat16."""

import pytest

from faceattr.errors import ConfigError
from faceattr.precision import lacks_bfloat16, resolve_precision


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        (None, "float32"),  # a CPU
        ((6, 1), "float32"),
        ((7, 5), "float32"),  # Turing has no bfloat16
        ((8, 0), "bfloat16"),
        ((8, 9), "bfloat16"),
        ((9, 0), "bfloat16"),
        ((10, 0), "bfloat16"),
    ],
)
def test_auto_is_the_precision_of_the_device(capability, expected):
    assert resolve_precision("auto", capability) == expected


@pytest.mark.parametrize("capability", [None, (7, 5), (9, 0)])
@pytest.mark.parametrize("choice", ["float32", "bfloat16", "float16"])
def test_what_is_given_stays(choice, capability):
    assert resolve_precision(choice, capability) == choice


def test_another_precision_is_refused():
    with pytest.raises(ConfigError, match=r"--precision: expected one of auto, float32, .*, found 'int8'"):
        resolve_precision("int8", None)


@pytest.mark.parametrize(
    ("flags", "lacks"),
    [
        ("flags\t\t: fpu sse2 avx2 avx512f avx512_vnni", True),  # Cascade Lake
        ("flags\t\t: fpu avx512f avx512_bf16", False),  # Cooper Lake, Zen 4
        ("flags\t\t: fpu avx512f amx_bf16 amx_tile", False),  # Sapphire Rapids
        ("Features\t: fp asimd bf16 i8mm", False),  # Graviton 3
        ("Features\t: fp asimd", True),
        ("flags\t\t: fpu not_avx512_bf16", True),
    ],
)
def test_a_cpu_without_instructions_for_bfloat16_emulates_it(flags, lacks):
    assert lacks_bfloat16(f"processor\t: 0\nmodel name\t: a CPU bf16\n{flags}\nbugs\t\t: none\n") is lacks


def test_a_system_without_cpuinfo_is_not_warned_about():
    assert not lacks_bfloat16(None)
