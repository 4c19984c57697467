"""DeltaProduct (Siems et al. 2025, arXiv 2502.10297): several delta steps a token.

k_ti, v_ti, beta_ti          i = 1..n, from x_t; k_ti of length one, beta in (0, 2)
S = exp(g_t) S_{t-1},        then for each i:  S = S + k_ti beta_ti (v_ti - S^T k_ti)^T
o_t = S_t^T q_t
"""

import torch
from torch import Tensor

from core.kernels.matrix_scan import delta_scan


def delta_product_scan(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    state: Tensor | None = None,
    *,
    chunk: int = 64,
) -> tuple[Tensor, Tensor]:
    """Decay once, then n delta steps a token, then read.

    q (B, T, h, K), k (B, T, n, h, K), v (B, T, n, h, V), beta (B, T, n, h), log_decay (B, T, h) or
    (B, T, h, K), state (B, h, K, V) -> o (B, T, h, V), state.
    """
    n = k.shape[2]
    # between the n steps of a token nothing decays and nobody reads
    reads = torch.cat([torch.zeros_like(k[:, :, 1:]), q.unsqueeze(2)], 2).flatten(1, 2)
    if log_decay is not None:
        pause = torch.zeros_like(log_decay).unsqueeze(2).expand(-1, -1, n - 1, *log_decay.shape[2:])
        log_decay = torch.cat([log_decay.unsqueeze(2), pause], 2).flatten(1, 2)
    k, v, beta = k.flatten(1, 2), v.flatten(1, 2), beta.flatten(1, 2)
    o, state = delta_scan(reads, k, v, beta, log_decay, state, chunk=chunk)
    return o.unflatten(1, (-1, n))[:, :, -1], state
