"""Slates that learn: probabilistic user models, Thompson sampling, next-item models.

Public names are imported on first use, so `import recsys` costs nothing.
"""

from core.domains import Domain
from core.lazy import lazy

DOMAIN = Domain(
    name="recsys",
    summary="Recommend slates that learn: user models, Thompson sampling, simulation.",
    commands="recsys.cli:app",
    bench=("recsys.bench",),
    title="Recommendation",
    upload_mb=50,
)

PUBLIC = {
    "Catalogue": ".data",
    "Slates": ".data",
    "SlateModel": ".model",
    "evaluate": ".evaluation",
    "load_model": ".model",
    "ope": ".off_policy",
    "read_slates": ".data",
    "recommend": ".predict",
    "simulate": ".simulator",
}
__all__ = ["DOMAIN", *PUBLIC]
__getattr__, __dir__ = lazy(globals(), PUBLIC)
