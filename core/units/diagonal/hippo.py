"""HiPPO matrices: linear systems that remember a signal in a basis (Gu et al. 2020, arXiv 2008.07669).

    x' = A x + B u                     x holds the coefficients of the past of u

    legs  scaled Legendre        A_nk = -sqrt((2n+1)(2k+1)) for n > k, -(n+1) for n = k, 0 above
                                 B_n = sqrt(2n+1)
    legt  Legendre in a window   A_nk = -sqrt((2n+1)(2k+1)) * (1 for k <= n, else (-1)^(n-k)) / 2
                                 B_n = sqrt(2n+1) / 2
    lmu   un-normalised legt     A_nk = (2n+1) * (-1 for n < k, else (-1)^(n-k+1)),  B_n = (2n+1) (-1)^n
    lagt  Laguerre               A = -(I / 2 + ones strictly below the diagonal),  B = 1
    fout  Fourier in a window    A = S - p p^T,  B = p = (1, 0, sqrt 2, 0, sqrt 2, ...)
                                 S_{2n,2n+1} = -pi n,  S_{2n+1,2n} = pi n
    foud  Fourier with decay     A = S - I / 2 with frequencies 2 pi n,  B = p

Each is normal up to a term of low rank (S4, arXiv 2111.00396), A = V (Lambda - P P^*) V^*, here with rank one
for legs and fout. Everything is built in float64: the condition number of legs grows with its size.
"""

import math

import torch
from torch import Tensor

from core.errors import ConfigError


def transition(measure: str, size: int) -> tuple[Tensor, Tensor]:
    """A (N, N) and B (N, 1) of a measure, in continuous time.

    Raises:
        ValueError: no such measure.
    """
    n = torch.arange(size, dtype=torch.float64)[:, None]
    k, odd = n.T, 2 * n + 1
    alternating = 1 - 2 * ((n + k) % 2)  # (-1)^(n-k)
    if measure == "legs":
        return -((odd * odd.T).sqrt().tril(-1) + torch.diag(n[:, 0] + 1)), odd.sqrt()
    if measure == "legt":
        return -(odd * odd.T).sqrt() * torch.where(k <= n, 1, alternating) / 2, odd.sqrt() / 2
    if measure == "lmu":
        return odd * torch.where(n < k, -1, -alternating), odd * alternating[:, :1]
    if measure == "lagt":
        ones = torch.ones(size, size, dtype=torch.float64)
        return -(ones.tril(-1) + torch.eye(size) / 2), ones[:, :1]
    if measure == "fout":
        p = fourier_vector(size)
        return rotations(size, math.pi) - p * p.T, p
    if measure == "foud":
        return rotations(size, 2 * math.pi) - torch.eye(size) / 2, fourier_vector(size)
    raise ConfigError(f"no HiPPO measure {measure!r}; there are legs, legt, lmu, lagt, fout, foud")


def fourier_vector(size: int) -> Tensor:
    """(1, 0, sqrt 2, 0, sqrt 2, ...) as a column."""
    p = torch.zeros(size, 1, dtype=torch.float64)
    p[0::2] = math.sqrt(2)
    p[0] = 1
    return p


def rotations(size: int, frequency: float) -> Tensor:
    """Skew matrix that turns the pair (2n, 2n+1) with n times the frequency."""
    skew = torch.zeros(size, size, dtype=torch.float64)
    for n in range(size // 2):
        skew[2 * n, 2 * n + 1], skew[2 * n + 1, 2 * n] = -frequency * n, frequency * n
    return skew


def nplr(measure: str, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normal plus low rank: Lambda (N/2), P (N/2), B (N/2), V (N, N/2), the half with negative frequencies.

    A = V (diag Lambda - P P^*) V^* with both halves of every pair. The phase of each eigenvector is free, so
    only |P|, |B| and conj(P) B have a meaning of their own.

    Raises:
        ValueError: the size is odd, or the measure has no term of rank one.
    """
    if size % 2:
        raise ConfigError(f"the pairs of a normal matrix need an even size, got {size}")
    a, b = transition(measure, size)
    if measure == "legs":
        p = (torch.arange(size, dtype=torch.float64) + 0.5).sqrt()[:, None]
    elif measure == "fout":
        p = fourier_vector(size)
    else:
        raise ConfigError(f"rank one suffices for legs and fout, not for {measure!r}")
    normal = a + p * p.T  # a multiple of the identity plus a skew matrix
    frequencies, vectors = torch.linalg.eigh(-0.5j * (normal - normal.T))
    half = size // 2  # eigh sorts by frequency
    v = vectors[:, :half]
    poles = torch.complex(normal.diag().mean().expand(half), frequencies[:half])
    return poles, (v.mH @ p.to(v.dtype))[:, 0], (v.mH @ b.to(v.dtype))[:, 0], v
