"""Networks: the published encoder-decoder and our own predictor."""
