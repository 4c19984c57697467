"""Networks, one a file; each maps ink (B, 1, H, W) and widths to logits (T, B, V) and lengths."""
