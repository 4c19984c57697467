"""Pages in a process of their own: a word a line comes in, an address a line goes out.

`python -m tests.demos.server`. The words: a page (alone under `/`), `hub`, or `first PAGE`, which computes
what a page opens with, so that a browser waits for the page alone, and gives the address of the hub. A page
computes in threads; beside them pytest cannot show why a test failed: two threads that parse source at once
break each other in Python 3.11 (python/cpython#106905).
"""

import os
import sys
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


def main() -> None:
    """Answer until stdin ends; whatever else is printed goes to stderr."""
    import torch

    from demos import hub, serve, uploads

    torch.set_num_threads(1)
    uploads.MOST_S *= 20  # of a clock on the wall, which a busy machine moves
    answers, sys.stdout = sys.stdout, sys.stderr
    running: dict[str | None, str] = {}
    for line in sys.stdin:
        word = line.strip()
        if word.startswith("first "):
            open_with_result(hub.page(word.removeprefix("first ")))
        name = None if word == "hub" or word.startswith("first ") else word
        if name not in running:
            running[name] = serve.launch(hub.build(name), name=name)
        print(running[name], file=answers, flush=True)


def open_with_result(page: Any) -> None:
    """Do what the page does when it opens, with its controls as they stand."""
    for event in page.fns.values():
        if event.fn is not None and any(name == "load" for _, name in event.targets):
            event.fn(*(one.value for one in event.inputs))


if __name__ == "__main__":
    main()
