"""What a run fits on its validation lines at the end: confidences, and whether a character model helps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from core.ctc.char_lm import load_char_lm
from core.metrics.edit_distance import edit_distance
from core.weights import Card
from vision.ocr.batches import Pool
from vision.ocr.codec import Codec
from vision.ocr.confidence import Calibration, fit
from vision.ocr.config import TrainConfig
from vision.ocr.decoding import Decoding
from vision.ocr.metrics import right_characters
from vision.ocr.recognise import log_probabilities, spell


class Fitted:
    """Best weights -> what belongs into their card beside them."""

    def __init__(
        self, check: Pool, config: TrainConfig, codec: Codec, lm: dict[str, Any] | None = None
    ) -> None:
        self.check, self.config, self.codec, self.lm = check, config, codec, lm
        self.truths = [codec.decode(labels) for labels in check.labels]

    def __call__(self, model: nn.Module) -> dict[str, Any]:
        from vision.ocr.calibrate import character_errors, fit_confidence
        from vision.ocr.reader import MODELS, Reader

        if hasattr(model, "spell"):
            return {"calibration": self.of_spelling(model).as_dict()}
        card = Card(f"ocr {self.config.task}", "", "", "")
        reader = Reader(
            model, card, self.codec, self.config.line, Calibration(), Decoding(), self.config.task
        )
        found = [[part] for part in log_probabilities(model, self.check.ink)]
        told: dict[str, Any] = {}
        path = MODELS / Path(str(self.lm["file"])).name if self.lm and "file" in self.lm else None
        if self.lm is not None and path is not None and path.is_file():
            weight, bonus = float(self.lm.get("weight", 0.6)), float(self.lm.get("bonus", 1.2))
            decoding = Decoding(lm=load_char_lm(path), lm_weight=weight, lm_bonus=bonus)
            without = character_errors(reader, found, self.truths, Decoding())
            errors = character_errors(reader, found, self.truths, decoding)
            if errors <= without:
                told["lm"] = {**self.lm, "errors": errors, "without": without}
                reader = replace(reader, decoding=decoding)
        told["calibration"] = fit_confidence(reader, found, self.truths).as_dict()
        return told

    def of_spelling(self, model: nn.Module) -> Calibration:
        """For networks that spell."""
        chars: list[float] = []
        right: list[bool] = []
        lines: list[float] = []
        whole: list[bool] = []
        for truth, told in zip(self.truths, spell(model, self.check.ink), strict=True):
            text = self.codec.decode(told.labels)
            chars += told.sure
            right += right_characters(truth, text)
            lines.append(told.confidence)
            whole.append(edit_distance(truth, text) == 0)
        return Calibration(*fit(chars, right), *fit(lines, whole))
