"""Connectionist temporal classification: loss, decoders, language model, alignment. Blank is label 0.

`align`, `greedy`, `prefix_beam` and `word_beam` are modules here, each with a function of its name,
to be had from `core`.
"""

from core.lazy import lazy

PUBLIC = {
    "Alignment": ".align",
    "Automaton": ".constraints",
    "of_length": ".constraints",
    "only": ".constraints",
    "regular": ".constraints",
    "CharLM": ".char_lm",
    "from_arpa": ".char_lm",
    "load_char_lm": ".char_lm",
    "save_char_lm": ".char_lm",
    "to_arpa": ".char_lm",
    "train_char_lm": ".char_lm",
    "choose": ".exact",
    "every_labelling": ".exact",
    "label_score": ".exact",
    "Spans": ".greedy",
    "fast_beam": ".compiled_beam",
    "label_model": ".compiled_beam",
    "Bigram": ".lexicon",
    "Words": ".lexicon",
    "ctc_loss": ".loss",
    "frames_needed": ".loss",
    "Hypothesis": ".prefix_beam",
    "PrefixBeam": ".prefix_beam",
}
__all__ = list(PUBLIC)
__getattr__, __dir__ = lazy(globals(), PUBLIC)
