"""A worker takes the GPU that it was given, and says so where there is none."""

import logging

import pytest
import torch

from faceattr.devices import given_device


def test_without_a_gpu_the_cpu_is_taken_in_silence(caplog):
    with caplog.at_level(logging.WARNING):
        assert given_device(False) == torch.device("cpu")
    assert caplog.messages == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_torch_cannot_see_is_told(caplog):
    with caplog.at_level(logging.WARNING):
        assert given_device(True) == torch.device("cpu")
    (message,) = caplog.messages
    assert "torch" in message
    assert "nvidia-smi" in message


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_the_gpu_that_was_found_is_taken():
    assert given_device(True, lambda: torch.device("cuda:0")) == torch.device("cuda:0")
