"""Block x loss on logs of next items, the same time for each, beside all baselines.

Every cell is a run folder of its own, and an interrupted table goes on with the first cell that is not
finished. On the CPU a cell is also a process of its own, so that its peak memory is its own; on a GPU the
memory is what the device had allocated, and the time that of the process that drives it.

Settings are for all cells, or for those of one block, loss or log where the name of it stands before them:
`gru4rec.loop.lr`, `sampled.logq`, `yoochoose.support`.
"""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from core.bench.memory import peak_of
from core.config import over, to_dict
from core.config import replace as changed
from core.errors import ConfigError
from core.files import write_text
from recsys.config import NEXT_LOSSES, NextRun
from recsys.sequences.data import read_sequences
from recsys.sequences.evaluate import evaluate_next
from recsys.sequences.train import train_next

BLOCKS = ("gru4rec", "sasrec", "esasrec", "gsasrec", "fmlp", "hstu", "mamba2", "gated_delta_net", "min_gru")
LOSSES = ("softmax", "sampled", "gbce")
FIGURES = ("HR@10", "NDCG@10", "MRR@20", "HR@20")
LANES = 32
IN_LANES = ("bpr_max", "in_batch")
SETTINGS = frozenset(field.name for field in fields(NextRun))


def contest(
    files: Sequence[str],
    out: str | Path,
    blocks: Sequence[str] = BLOCKS,
    losses: Sequence[str] = LOSSES,
    *,
    seconds: float = 30.0,
    settings: dict[str, Any] | None = None,
    groups: dict[str, str] | None = None,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Any = None,
) -> dict[str, Any]:
    """Train and score every block with every loss on every file into `out`; figures of all that is there.

    Args:
        seconds: CPU seconds of training of each (of the process that drives the device, on a GPU).
        settings: of `NextRun`, for all or under the name of a block, a loss or a log.
        groups: tables of items by file.

    Raises:
        ConfigError: an unknown loss or setting, before anything is trained; or a folder whose cells have
            other settings.
    """
    stems = [Path(file).name.split(".")[0] for file in files]
    names = {*SETTINGS, *NEXT_LOSSES, *BLOCKS, *blocks, *stems}
    for name in settings or {}:
        if name not in names:
            close = get_close_matches(name, names, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ConfigError(f"{name!r} is no setting, block, loss or log.{hint}")
    cells = {
        (file, stem, block, loss): config_of(settings or {}, (stem, block, loss), seconds, seed)
        for file, stem in zip(files, stems, strict=True)
        for block in blocks
        for loss in losses
        if block == "gru4rec" or loss not in IN_LANES
    }
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for file, stem in zip(files, stems, strict=True):
        table = out / f"{stem}.json"
        if not table.is_file():
            own = scoped(settings or {}, (stem,))
            asked = {name: value for name, value in own.items() if name in ("split", "support")}
            write_text(table, json.dumps(peak_of(beside, file, (groups or {}).get(file), asked)[0]))
    for (file, stem, block, loss), config in cells.items():
        name = f"{stem}-{block}-{loss}"
        figures = out / f"{name}.json"
        if not figures.is_file():
            job = (file, str(out / name), config, (groups or {}).get(file))
            if device is not None and device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
                row = cell(*job, device)
                peak = torch.cuda.max_memory_allocated(device)
            else:
                row, peak = peak_of(cell, *job)
            write_text(figures, json.dumps(row | {"peak_bytes": peak}))
        row = json.loads(figures.read_text(encoding="utf-8"))
        if row["settings"] != json.loads(json.dumps(to_dict(config))):
            raise ConfigError(f"{figures} was made with other settings; take another --out.")
        if progress is not None:
            progress(f"{stem}, {block}, {loss}: HR@10 {row['figures']['HR@10']:.4f}")
    return gathered(out)


def scoped(settings: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The settings for all with those that stand under one of the names, the later name first."""
    own = {key: value for key, value in settings.items() if key in SETTINGS}
    for name in names:
        own = over(own, settings.get(name, {}))
    return own


def config_of(settings: Mapping[str, Any], names: tuple[str, str, str], seconds: float, seed: int) -> NextRun:
    """The settings of a cell: names of its log, block and loss.

    Raises:
        ConfigError: an unknown loss or setting.
    """
    _, block, loss = names
    if loss not in NEXT_LOSSES:
        raise ConfigError(f"no loss {loss!r}; there are {', '.join(NEXT_LOSSES)}.")
    lanes = LANES if loss in IN_LANES else 0
    mine = {"seconds": seconds, "seed": seed, "model": {"block": block}, "loss": loss, "lanes": lanes}
    config = changed(NextRun(), over(scoped(settings, names), mine))
    return replace(config, batch=min(config.batch, 2 * LANES)) if lanes else config  # a step a click


def cell(
    file: str, run: str, config: NextRun, groups: str | None, device: torch.device | None = None
) -> dict[str, Any]:
    """One block with one loss on one file: figures, seconds and settings."""
    torch.set_num_threads(1)
    data = read_sequences(file, items=groups)
    shutil.rmtree(run, ignore_errors=True)  # an interrupted cell is short: it is made again
    began = time.process_time()
    outcome = train_next(config, data, run, quiet=True, device=device)
    spent = time.process_time() - began
    report = evaluate_next(
        data,
        outcome.weights.parent,
        split=config.split,
        support=config.support,
        beside=False,
        device=device,
    )
    return {
        "block": config.model.block,
        "loss": config.loss,
        "file": Path(file).name.split(".")[0],
        "figures": report["model"],
        "kept_aside": abs(outcome.score),
        "cpu_seconds": spent,
        "settings": to_dict(config),
    }


def beside(file: str, groups: str | None, asked: dict[str, Any]) -> dict[str, Any]:
    """The baselines on a file."""
    torch.set_num_threads(1)
    report = evaluate_next(read_sequences(file, items=groups), **asked)
    return {"n": report["n"], "baselines": report["baselines"], "protocol": report["protocol"]}


def gathered(out: str | Path) -> dict[str, Any]:
    """All finished cells of a folder, by file, best first.

    Raises:
        ConfigError: there is none.
    """
    files: dict[str, Any] = {}
    for path in sorted(Path(out).glob("*.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        if "baselines" in row:
            files.setdefault(path.stem, {"models": []}).update(row)
        else:
            about = {name: row[name] for name in ("block", "loss", "cpu_seconds", "peak_bytes")}
            files.setdefault(row["file"], {"models": []})["models"].append(about | row["figures"])
    if not files:
        raise ConfigError(f"{out}: no finished cell in it.")
    for table in files.values():
        table["models"].sort(key=lambda one: -one["NDCG@10"])
    return {"files": files}


def lines(answer: dict[str, Any]) -> list[str]:
    """The tables for people, as Markdown."""
    out = []
    for name, table in answer["files"].items():
        out += ["", f"{name}: {table['n']} questions ({table['protocol']['target']}); "
                f"{table['protocol']['ranking']}.", ""]  # fmt: skip
        out.append(f"| {name} | loss | HR@10 | NDCG@10 | MRR@20 | HR@20 | CPU s | MB |")
        out.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for row in table["models"]:
            cells = " | ".join(f"{row[figure]:.4f}" for figure in FIGURES)
            size = row["peak_bytes"] / 2**20
            out.append(
                f"| {row['block']} | {row['loss']} | {cells} | {row['cpu_seconds']:.0f} | {size:.0f} |"
            )
        for base, row in sorted(table["baselines"].items(), key=lambda pair: -pair[1]["NDCG@10"]):
            out.append(f"| *{base}* | | {' | '.join(f'{row[figure]:.4f}' for figure in FIGURES)} | | |")
    return out
