"""Separate talkers and remove noise, from files or live.

    import speech

    clean = speech.enhance(wave, 16000)          # (N,) or (N, channels), as it came
    first, second = speech.separate(wave, 16000)
    stream = speech.open_stream()                # feed(samples) -> samples, flush()

Public names are imported on first use, so `import speech` costs nothing.
"""

from core.domains import Domain
from core.lazy import lazy

DOMAIN = Domain(
    name="speech",
    summary="Separate talkers and remove noise, from files or live.",
    commands="speech.cli:app",
    bench=("speech.bench",),
    upload_mb=64,
)

PUBLIC = {
    "Model": ".model",
    "enhance": ".predict",
    "for_voice": ".voices",
    "load_model": ".model",
    "open_stream": ".predict",
    "separate": ".predict",
}
__all__ = ["DOMAIN", *PUBLIC]
__getattr__, __dir__ = lazy(globals(), PUBLIC)
