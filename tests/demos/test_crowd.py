"""Two hundred visitors at once: each is answered or told that the page is busy, with nobody else's data."""

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from demos.serve import QUEUE, launch

VISITORS = 200


@pytest.fixture
def address() -> Iterator[str]:
    import gradio as gr

    from demos.uploads import said

    @said
    def double(text: str) -> str:
        return text * 2

    with gr.Blocks(analytics_enabled=False) as page:
        text = gr.Textbox()
        gr.Button().click(double, text, text, api_name="double", concurrency_id="double")
    url = launch(page)
    yield url.rstrip("/")
    page.close()


def asked(address: str, word: str) -> tuple[str, Any]:
    """("answered", text), ("refused", message) or ("lost", what happened)."""
    place = f"{address}/gradio_api/call/double"
    post = urllib.request.Request(
        place, json.dumps({"data": [word]}).encode(), {"Content-Type": "application/json"}
    )
    try:
        event = json.load(urllib.request.urlopen(post, timeout=120))["event_id"]
        told = urllib.request.urlopen(f"{place}/{event}", timeout=120).read().decode()
    except urllib.error.HTTPError as error:  # pyright: ignore[reportAttributeAccessIssue]
        return "refused", error.code
    except OSError as error:
        return "lost", repr(error)
    last = told.strip().split("\n\n")[-1]
    if last.startswith("event: complete"):
        return "answered", json.loads(last.partition("data: ")[2])[0]
    return "refused", last


@pytest.mark.slow
@pytest.mark.browser
def test_everybody_is_answered_or_refused_and_sees_only_their_own(address: str) -> None:
    words = [f"visitor-{number};" for number in range(VISITORS)]
    with ThreadPoolExecutor(VISITORS) as pool:
        answers = list(pool.map(lambda word: asked(address, word), words))
    kinds = [kind for kind, _ in answers]
    assert "lost" not in kinds
    assert kinds.count("answered") >= min(QUEUE, 5)
    for word, (kind, text) in zip(words, answers, strict=True):
        if kind == "answered":
            assert text == 2 * word
