"""The hub: a landing page with a card per pipeline, and an address for each page; or one page alone."""

import atexit
import html
import os
import tempfile
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from shutil import rmtree
from typing import Any

from packaging.requirements import Requirement

from core.domains import domains, requirements
from core.errors import ConfigError, MissingExtraError, RecurraError
from demos.markup import card
from demos.places import places

LEAD = "Recurrent networks that train in parallel and run step by step, on this machine. Nothing leaves it."
UPLOADS = "recurra-demo-"
"""Beginning of the folder for uploads; the number of its process follows."""
USE = """import core
unit = core.build('gru', 64)   # any name above, any width
y, state = unit(x)             # x (B, T, 64)"""


def build(name: str | None) -> Any:
    """The page of one pipeline under `/`, or the hub with all of them.

    Raises:
        ConfigError: no such page.
        MissingExtraError: the packages of the demos are not installed.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    # gradio reads this when it is imported: uploads then lie in a folder of this process alone
    if "GRADIO_TEMP_DIR" not in os.environ:
        sweep_dead()
        folder = os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix=f"{UPLOADS}{os.getpid()}-")
        atexit.register(rmtree, folder, ignore_errors=True)  # what visitors brought goes when the page stops
    if name is not None:
        return page(name)
    import gradio as gr

    pages: dict[str, Any] = {}
    cards = []
    known = domains()
    for word in places("page"):
        try:
            pages[word] = page(word)
            cards.append(ready_card(word, known[word].heading, known[word].summary))
        except RecurraError as error:
            cards.append(card(known[word].heading, known[word].summary, note=str(error)))
    with gr.Blocks(title="Recurra", analytics_enabled=False) as hub:
        gr.HTML(landing(cards), elem_id="landing")
    for word, blocks in pages.items():
        with hub.route(known[word].heading, f"/{word}"):
            blocks.render()
    return hub


def sweep_dead() -> None:
    """Delete what was uploaded to pages of ours whose process was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{UPLOADS}*-*"):
        owner = folder.name.removeprefix(UPLOADS).partition("-")[0]
        if owner.isdigit() and folder.is_dir() and not folder.is_symlink() and not lives(int(owner)):
            rmtree(folder, ignore_errors=True)


def lives(process: int) -> bool:
    """Whether a process is there."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def page(name: str) -> Any:
    """The blocks of one pipeline's page.

    Raises:
        ConfigError: no such page.
        MissingExtraError: a package that it needs is not installed; the message says how to get it.
    """
    modules = places("page")
    if name not in modules:
        raise ConfigError(f"no demo called {name!r}; there is {', '.join(modules)}.")
    try:
        return import_module(modules[name]).build()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise MissingExtraError(
            f'the demo {name} needs the package {package}: pip install "recurra[{extra_of(package)}]".'
        ) from error


def extra_of(package: str) -> str:
    """The extra of our distribution that brings a package; `demos` where none says so."""
    for line in requirements():
        requirement, _, marker = line.partition(";")
        found = Requirement(requirement).name.lower().replace("_", "-")
        if found == package.lower().replace("_", "-") and "extra ==" in marker:
            return marker.partition("extra ==")[2].strip().strip("\"'")
    return "demos"


def ready_card(word: str, heading: str, summary: str) -> str:
    """The card of a page that can be opened: its figure comes from the card of its weights."""
    headline = getattr(import_module(places("page")[word]), "HEADLINE", None)
    figure, note = headline.read() if headline is not None else ("", "")
    return card(heading, summary, figure, note, href=word, drawn=drawn(word))


def drawn(word: str) -> str:
    """The small picture of a pipeline, `demos/pictures/<word>.svg`; empty without one."""
    path = files("demos") / "pictures" / f"{word}.svg"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def landing(cards: list[str]) -> str:
    """One sentence, the cards, the recurrent units and how to use them."""
    from core import registry

    units = "".join(
        f'<span title="{html.escape(summary, quote=True)}"><code>{html.escape(name)}</code></span>'
        for name, summary in ((name, registry.find(name).summary) for name in registry.names())
    )
    return (
        f'<h1>Recurra</h1><p class="r-lead">{html.escape(LEAD)}</p>'
        f'<div class="r-cards">{"".join(cards)}</div>'
        f"<h2>{len(registry.names())} recurrent units behind one interface</h2>"
        f'<div class="r-units">{units}</div>'
        f'<pre class="r-code" tabindex="0">{html.escape(USE)}</pre>'
    )
