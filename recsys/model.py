"""A slate model as people hold it: trained, scored and asked by its own methods."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from recsys.evaluation import evaluate
from recsys.predict import Slate, recommend
from recsys.slates import Slates
from recsys.trained import DEFAULT, Trained


@dataclass(frozen=True)
class SlateModel(Trained):
    """A trained network with the questions it answers."""

    @staticmethod
    def fit(slates: Slates, out: str | Path, **options: Any) -> "SlateModel":
        """Train on a log into a run folder; options as of `recsys.train.train`."""
        from recsys.train import train

        return SlateModel.load(train(slates, out, **options).weights.parent)

    def evaluate(self, *logs: Slates, **options: Any) -> dict[str, Any]:
        """Figures on the users of logs beside all baselines; options as of `recsys.evaluate`."""
        return evaluate(self, logs, **options)

    def recommend(
        self, history: Any, k: int = 10, policy: str = "greedy", seed: int = 0, **more: Any
    ) -> Slate:
        """See `recsys.predict.recommend`."""
        return recommend(self, history, k, policy, seed, **more)


@lru_cache(maxsize=8)
def load_model(name: str = DEFAULT) -> SlateModel:
    """A slate model by bundled name, file or run folder; loaded once per process.

    Raises:
        WeightsError: nothing by this name, damaged, or weights of another task.
    """
    return SlateModel.load(name)
