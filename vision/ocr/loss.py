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
    *,
    focal: bool = False,
) -> tuple[Tensor, Tensor]:
    """Loss () per character of logits (T, B, V) and, weighted, of the shortcut's; impossible lines ().

    focal: 0.25 (1 - exp(-ctc))^0.5 ctc for each line, as EASTER2 has it.
    """
    main = ctc_loss(logits, targets, lengths, target_lengths)
    characters = max(1, int(sum(int(n) for n in target_lengths)))
    each = main.loss
    if focal:
        each = 0.25 * (1 - (-each).exp()).clamp(min=1e-6).sqrt() * each
    loss = each.sum() / characters
    if side is not None:
        loss = loss + weight * ctc_loss(side, targets, lengths, target_lengths).loss.sum() / characters
    return loss, main.impossible
