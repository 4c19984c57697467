"""`card.md`: what a person needs to know about a set of weights before using them."""

import json
import subprocess
from functools import cache
from pathlib import Path

import core
from core.files import write_text
from core.weights import Card


@cache
def commit() -> str:
    """The commit of the checkout that this code runs from, marked if changed; "unknown" outside of one.

    Asked for once: a process goes on with the code that it has read.
    """
    root = Path(core.__file__).resolve().parents[1]
    try:
        # An installed copy may lie inside somebody else's repository.
        if Path(git(root, "rev-parse", "--show-toplevel")).resolve() != root:
            return "unknown"
        changed = git(root, "status", "--porcelain", "--untracked-files=no")
        return git(root, "rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def git(root: Path, *words: str) -> str:
    """Output of a git command."""
    done = subprocess.run(
        ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()


def write_card(path: Path, card: Card, facts: dict[str, str]) -> None:
    """Write a card in Markdown; `facts` are further rows of its table, such as wall time."""
    rows = {
        "Task": card.task,
        "Network": card.unit,
        "Data": card.data,
        "Terms of the data": card.terms,
        "Score": ", ".join(f"{name} {value:.5g}" for name, value in card.score.items()) or "none yet",
        **facts,
        "Commit": card.commit,
    }
    table = "\n".join(f"| {name} | {one_line(text)} |" for name, text in rows.items())
    settings = f"```json\n{json.dumps(card.settings, indent=2)}\n```"
    parts = [f"# {card.task}: {card.unit}", f"| | |\n|---|---|\n{table}", "## Settings", settings]
    write_text(path, "\n\n".join(parts) + "\n")


def one_line(text: str) -> str:
    """Text that cannot break a table."""
    return " ".join(text.split()).replace("|", "\\|")
