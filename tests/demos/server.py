"""Pages in a process of their own: a name a line comes in (empty: the hub), an address a line goes out.

`python -m tests.demos.server`. A page computes in threads; beside them pytest cannot show why a test failed:
two threads that parse source at once break each other in Python 3.11 (python/cpython#106905).
"""

import os
import sys

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


def main() -> None:
    """Answer until stdin ends; whatever else is printed goes to stderr."""
    import torch

    from demos import hub, serve, uploads

    torch.set_num_threads(1)
    uploads.MOST_S *= 5  # of a clock on the wall, which a busy machine moves
    answers, sys.stdout = sys.stdout, sys.stderr
    running = {}
    for line in sys.stdin:
        name = line.strip() or None
        if name not in running:
            running[name] = serve.launch(hub.build(name), name=name)
        print(running[name], file=answers, flush=True)


if __name__ == "__main__":
    main()
