"""Connectionist temporal classification: loss, decoders, language model, alignment. Blank is label 0."""

from core.lazy import lazy

PUBLIC = {
    "Alignment": ".align",
    "align": ".align",
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
    "fast_beam": ".fast_beam",
    "label_model": ".fast_beam",
    "greedy": ".greedy",
    "Bigram": ".lexicon",
    "Words": ".lexicon",
    "ctc_loss": ".loss",
    "frames_needed": ".loss",
    "Hypothesis": ".prefix_beam",
    "PrefixBeam": ".prefix_beam",
    "prefix_beam": ".prefix_beam",
    "word_beam": ".word_beam",
}
__all__ = list(PUBLIC)
__getattr__, __dir__ = lazy(globals(), PUBLIC)
