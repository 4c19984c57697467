"""No file of the machine can be read through a page, and uploads are limited."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import ConfigError
from demos import hub, serve


def answer(request: urllib.request.Request | str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(request, timeout=200) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.csv"
    rows = "\n".join(f"{k / 10},{k},{k},4711" for k in range(100))
    path.write_text(f"timestamp,tx,ty,tz\n{rows}\n")
    return path


def test_files_of_the_machine_cannot_be_fetched(served: Callable[..., str], secret: Path) -> None:
    url = served("trajectory")
    for path in (secret, "/etc/passwd", "../../../../etc/passwd"):
        status, body = answer(f"{url}gradio_api/file={path}")
        assert status in (403, 404)
        assert b"4711" not in body
        assert b"root:" not in body


def test_a_foreign_path_is_refused_as_input(served: Callable[..., str], secret: Path) -> None:
    url = served("trajectory")
    inside = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [inside, "circle", 0, "trajectory-gru", 1.0, 0.5, 1280]}).encode()
    ask = urllib.request.Request(f"{url}gradio_api/call/predict", body, {"Content-Type": "application/json"})
    _, reply = answer(ask)
    _, outcome = answer(f"{url}gradio_api/call/predict/{json.loads(reply)['event_id']}")
    assert b"event: error" in outcome
    assert b"4711" not in outcome
    assert b"r-stat" not in outcome


def test_large_uploads_are_refused(served: Callable[..., str]) -> None:
    url = served("trajectory")
    edge = b"----x"
    body = b"--" + edge + b'\r\nContent-Disposition: form-data; name="files"; filename="a.csv"\r\n\r\n'
    body += b"0" * (21 * 1024 * 1024) + b"\r\n--" + edge + b"--\r\n"
    request = urllib.request.Request(
        f"{url}gradio_api/upload",
        body,
        {"Content-Type": f"multipart/form-data; boundary={edge.decode()}"},
    )
    try:
        status, _ = answer(request)
    except OSError:  # the server may close the connection before all is sent
        return
    assert status == 413


def test_an_unknown_page_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no demo called 'tea'; there is .*trajectory"):
        hub.build("tea")


def test_a_taken_port_is_named(served: Callable[..., str]) -> None:
    port = int(served("trajectory").rsplit(":", 1)[1].strip("/"))
    with pytest.raises(ConfigError, match="cannot listen on"):
        serve.launch(hub.build("trajectory"), port=port)


def test_the_interface_is_described_for_programs(served: Callable[..., str]) -> None:
    status, body = answer(served("trajectory") + "gradio_api/info")
    assert status == 200
    assert set(json.loads(body)["named_endpoints"]) == {"/predict", "/replay", "/methods"}
