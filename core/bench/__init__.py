"""Speed: cases with a peer or a hardware ceiling, measured in the same run."""
