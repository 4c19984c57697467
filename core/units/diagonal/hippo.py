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

import numpy as np
from numpy import ndarray


def transition(measure: str, size: int) -> tuple[ndarray, ndarray]:
    """A (N, N) and B (N, 1) of a measure, in continuous time.

    Raises:
        ValueError: no such measure.
    """
    n, k = np.arange(size)[:, None], np.arange(size)[None, :]
    if measure == "legs":
        a = -np.where(n > k, np.sqrt((2 * n + 1.0) * (2 * k + 1)), np.where(n == k, n + 1.0, 0.0))
        return a, np.sqrt(2 * n + 1.0)
    if measure == "legt":
        sign = np.where(k <= n, 1.0, (-1.0) ** (n - k))
        return -np.sqrt((2 * n + 1.0) * (2 * k + 1)) * sign / 2, np.sqrt(2 * n + 1.0) / 2
    if measure == "lmu":
        return (2 * n + 1.0) * np.where(n < k, -1.0, (-1.0) ** (n - k + 1)), (2 * n + 1.0) * (-1.0) ** n
    if measure == "lagt":
        return -np.where(n == k, 0.5, np.where(n > k, 1.0, 0.0)), np.ones((size, 1))
    if measure == "fout":
        p = fourier_vector(size)
        return rotations(size, np.pi) - p * p.T, p
    if measure == "foud":
        return rotations(size, 2 * np.pi) - np.eye(size) / 2, fourier_vector(size)
    raise ValueError(f"no HiPPO measure {measure!r}; there are legs, legt, lmu, lagt, fout, foud")


def fourier_vector(size: int) -> ndarray:
    """(1, 0, sqrt 2, 0, sqrt 2, ...) as a column."""
    p = np.zeros((size, 1))
    p[0::2] = np.sqrt(2)
    p[0] = 1
    return p


def rotations(size: int, frequency: float) -> ndarray:
    """Skew matrix that turns the pair (2n, 2n+1) with n times the frequency."""
    skew = np.zeros((size, size))
    for n in range(size // 2):
        skew[2 * n, 2 * n + 1], skew[2 * n + 1, 2 * n] = -frequency * n, frequency * n
    return skew


def nplr(measure: str, size: int) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Normal plus low rank: Lambda (N/2), P (N/2), B (N/2), V (N, N/2), the half with negative frequencies.

    A = V (diag Lambda - P P^*) V^* with both halves of every pair. The phase of each eigenvector is free, so
    only |P|, |B| and conj(P) B have a meaning of their own.

    Raises:
        ValueError: the size is odd, or the measure has no term of rank one.
    """
    if size % 2:
        raise ValueError(f"the pairs of a normal matrix need an even size, got {size}")
    a, b = transition(measure, size)
    if measure == "legs":
        p = np.sqrt(np.arange(size) + 0.5)[:, None]
    elif measure == "fout":
        p = fourier_vector(size)
    else:
        raise ValueError(f"rank one suffices for legs and fout, not for {measure!r}")
    normal = a + p * p.T  # a multiple of the identity plus a skew matrix
    real = np.diag(normal).mean()
    imaginary, vectors = np.linalg.eigh(-0.5j * (normal - normal.T))
    half = size // 2  # eigh sorts by frequency
    v = vectors[:, :half]
    return real + 1j * imaginary[:half], (v.conj().T @ p)[:, 0], (v.conj().T @ b)[:, 0], v
