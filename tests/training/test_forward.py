"""How a network's inputs are computed: in the precision of the device, and with TF32 on a GPU."""

import pytest
import torch

from faceattr.training.loop.forward import Forward
from tests.training.toy import build_toy, make_batch

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_a_cpu_computes_in_float32_unless_it_is_told_otherwise(precision, dtype):
    model = build_toy()
    forward = Forward(model.backbone.preprocessing, precision=precision, device=CPU)
    assert forward.precision == str(dtype).removeprefix("torch.")
    assert {each.dtype for each in forward(model, make_batch(4, 0).inputs).values()} == {dtype}
    assert {each.dtype for each in model.parameters()} == {torch.float32}
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.gpu
def test_a_gpu_computes_float32_with_tf32():
    device = torch.device("cuda")
    model = build_toy().to(device)
    ampere = torch.cuda.get_device_capability() >= (8, 0)
    before = torch.get_float32_matmul_precision()
    try:
        forward = Forward(model.backbone.preprocessing, precision="auto", device=device)
        assert forward.precision == ("bfloat16" if ampere else "float32")
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        # 1 + 2^-13 has more than the 10 bits of TF32.
        ones = torch.full((64, 64), 1 + 2**-13, device=device)
        assert float((ones @ ones)[0, 0]) == (64 if ampere else pytest.approx(64 * (1 + 2**-13) ** 2))
    finally:
        torch.set_float32_matmul_precision(before)
