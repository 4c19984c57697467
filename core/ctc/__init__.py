"""Connectionist temporal classification: loss, decoders, language model, alignment. Blank is label 0."""

from core.lazy import lazy

PUBLIC = {
    "Alignment": ".forced_alignment",
    "align": ".forced_alignment",
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
    "Spans": ".best_path",
    "fast_beam": ".compiled_beam",
    "label_model": ".compiled_beam",
    "greedy": ".best_path",
    "Bigram": ".lexicon",
    "Words": ".lexicon",
    "ctc_loss": ".loss",
    "frames_needed": ".loss",
    "Hypothesis": ".prefix_beam_search",
    "PrefixBeam": ".prefix_beam_search",
    "prefix_beam": ".prefix_beam_search",
    "word_beam": ".word_beam_search",
}
__all__ = list(PUBLIC)
__getattr__, __dir__ = lazy(globals(), PUBLIC)
