"""Applications of recurrent networks, one folder each."""
