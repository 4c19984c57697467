"""The evaluation of published benchmarks, each as its own code computes it."""
