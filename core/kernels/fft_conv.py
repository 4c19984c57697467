"""Causal convolution over a whole sequence, for recurrences that do not change with time.

    y_t = sum_{l=0..t} K_l * x_{t-l}                   per feature, real or complex

By FFT with zero padding to at least 2T - 1, so that nothing wraps around. In float32 the error is that of
the FFT, about 1e-6 of the largest output up to T = 16384.
"""

import torch
from torch import Tensor

from core.kernels.precision import widen


def fft_conv(x: Tensor, kernel: Tensor) -> Tensor:
    """x (B, T, D) convolved with kernel (L, D) along time -> (B, T, D); taps beyond T do not count.

    Raises:
        ValueError: shapes that do not fit each other.
    """
    check(x, kernel)
    dtype = torch.promote_types(x.dtype, kernel.dtype)
    time = x.shape[1]
    if x.numel() == 0:
        return x.new_zeros(x.shape, dtype=dtype)
    size = fast_size(time + min(len(kernel), time) - 1)
    # time innermost: the transforms then run along memory
    signal, taps = widen(x.transpose(1, 2), kernel[:time].transpose(0, 1))
    if dtype.is_complex:
        y = torch.fft.ifft(torch.fft.fft(signal, size) * torch.fft.fft(taps, size), size)
    else:
        y = torch.fft.irfft(torch.fft.rfft(signal, size) * torch.fft.rfft(taps, size), size)
    return y[..., :time].transpose(1, 2).to(dtype)


def fft_conv_ref(x: Tensor, kernel: Tensor) -> Tensor:
    """The definition: one shifted product for each tap."""
    check(x, kernel)
    time = x.shape[1]
    y = torch.zeros(x.shape, dtype=torch.promote_types(x.dtype, kernel.dtype), device=x.device)
    for lag, tap in enumerate(kernel[:time].unbind(0)):
        y = y + torch.cat([torch.zeros_like(x[:, :lag]), x[:, : time - lag]], 1) * tap
    return y


def check(x: Tensor, kernel: Tensor) -> None:
    if x.ndim != 3 or kernel.ndim != 2 or kernel.shape[1] != x.shape[2]:
        raise ValueError(
            "a convolution expects x (B, T, D) and a kernel (L, D), "
            f"got {tuple(x.shape)} and {tuple(kernel.shape)}"
        )


def fast_size(least: int) -> int:
    """The smallest size >= least without prime factors above 5, for which FFTs are fast."""
    best = 1 << (least - 1).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            two = three << max(0, (-(-least // three) - 1).bit_length())
            best = min(best, two)
            three *= 3
        five *= 5
    return best
