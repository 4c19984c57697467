"""A load of requests on a real server over loopback, for the bench: what a request costs in CPU time."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from core.errors import WorkError
from core.weights import Card, save
from recsys.baselines import Counted, Counts
from recsys.config import InterestConfig
from recsys.model import SlateModel
from recsys.models.interest import InterestNetwork
from recsys.slates import FIRST, Catalogue
from recsys.trained import equip

GROUPS, SLOTS, READY_S, CLIENTS = 200, 25, 300, 16


def large_model(items: int, seed: int = 0) -> SlateModel:
    """A network of so many items, untrained but with counts, for measurements."""
    random = np.random.default_rng(seed)
    group = np.concatenate([np.arange(FIRST), FIRST + random.integers(0, GROUPS, items)]).astype(np.int64)
    catalogue = Catalogue(group)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = InterestNetwork(InterestConfig(), torch.from_numpy(group), SLOTS)
    counts: Any = Counted.empty(len(group), SLOTS)
    clicked = torch.from_numpy(random.geometric(0.1, len(group)).astype(np.float32))
    equip(network, catalogue, counts)
    with torch.no_grad():
        counts.clicked.copy_(clicked)
        counts.shown.copy_(10 * clicked)
        network.clicked.copy_(clicked)
    network.requires_grad_(False)
    values: Counts = counts.values
    settings = {"model": vars(InterestConfig())}
    card = Card("recsys", "gru", "nothing: untrained", "generated: ours", settings,
                extra={"kind": "interest", "slots": SLOTS})  # fmt: skip
    return SlateModel(network, catalogue, values, card, f"{items} items")


def load(
    items: int = 100_000, requests: int = 400, users: int = 100, rate: float | None = None
) -> dict[str, Any]:
    """Start a server, send it recommendations and clicks in turn, measure its CPU time and ours of waiting.

    Args:
        rate: requests a second of all clients together; None: each sends when it has been answered.

    Raises:
        WorkError: the server does not start, or refuses a request.
    """
    with TemporaryDirectory() as folder:
        weights = Path(folder) / "w.safetensors"
        model = large_model(items)
        save(weights, model.network, model.card)
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
        words = [sys.executable, "-m", "core", "recsys", "serve", "--weights", str(weights)]
        words += ["--port", str(port), "--store", str(Path(folder) / "s.db"), "--policy", "inslate"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment) as server:
            try:
                wait_for(port)
                began, since = cpu_of(server.pid), time.perf_counter()
                pause = 0.0 if rate is None else CLIENTS / rate
                with ThreadPoolExecutor(CLIENTS) as clients:
                    share = requests // CLIENTS
                    parts = clients.map(lambda n: send(port, share, users, items, n, pause), range(CLIENTS))
                    waits = [wait for part in parts for wait in part]
                spent, wall = cpu_of(server.pid) - began, time.perf_counter() - since
            finally:
                server.send_signal(signal.SIGTERM)
    return {
        "requests": requests,
        "cpu_ms": 1000 * spent / max(len(waits), 1),
        "per_s": len(waits) / wall,
        "p50_ms": 1000 * float(np.quantile(waits, 0.5)),
        "p99_ms": 1000 * float(np.quantile(waits, 0.99)),
        "load": os.getloadavg()[0],
    }


def wait_for(port: int) -> None:
    """Until the server is ready."""
    for _ in range(READY_S * 5):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=30):
                return
        except OSError:
            time.sleep(0.2)
    raise WorkError("the server did not start.")


def cpu_of(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def send(port: int, requests: int, users: int, items: int, client: int, pause: float = 0.0) -> list[float]:
    """One request after the other on a kept connection, begun `pause` seconds apart; how long each took."""
    random = np.random.default_rng(client)
    connection = HTTPConnection("127.0.0.1", port, timeout=READY_S)
    waits: list[float] = []
    due = time.perf_counter() + pause * client / CLIENTS
    for number in range(requests):
        time.sleep(max(0.0, due - time.perf_counter()))
        due += pause
        user = f"u{random.integers(users)}"
        if number % 2:
            body = {"user": user, "item": int(FIRST + random.integers(items)), "key": f"{client}-{number}"}
            path = "/click"
        else:
            body, path = {"user": user, "k": 10}, "/recommend"
        began = time.perf_counter()
        try:
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        except OSError as error:
            raise WorkError(f"{path} was not answered ({error}).") from error
        waits.append(time.perf_counter() - began)
        if answer.status != 200:
            raise WorkError(f"{path} answered {answer.status}: {text[:200].decode('utf-8', 'replace')}")
    connection.close()
    return waits
