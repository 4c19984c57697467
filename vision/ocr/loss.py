"""What training minimises: CTC per character, with the shortcut head beside it."""

from collections.abc import Sequence

from torch import Tensor

from core.ctc.loss import ctc_loss


def recognition_loss(
    logits: Tensor,
    side: Tensor | None,
    targets: Tensor,
    lengths: Sequence[int] | Tensor,
    target_lengths: Sequence[int] | Tensor,
    weight: float,
) -> tuple[Tensor, Tensor]:
    """Loss () per character of logits (T, B, V) and, weighted, of the shortcut's; impossible lines ()."""
    main = ctc_loss(logits, targets, lengths, target_lengths)
    characters = max(1, int(sum(int(n) for n in target_lengths)))
    loss = main.loss.sum() / characters
    if side is not None:
        loss = loss + weight * ctc_loss(side, targets, lengths, target_lengths).loss.sum() / characters
    return loss, main.impossible
