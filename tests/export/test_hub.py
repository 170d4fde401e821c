"""What is published arrives at a server that speaks the part of the hub's API that huggingface_hub uses."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from samfast.errors import ConfigError, ExportError
from samfast.export import export_huggingface, push_to_hub
from samfast.train import Run

TOKEN = "hf_good"


class Hub(ThreadingHTTPServer):
    """Repositories in memory, for one token."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.messages: list[str] = []
        self.objects: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.body()
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token != TOKEN:
            self.answer({"error": "Invalid username or password."}, 401 if token != "hf_reader" else 403)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            known = name in self.server.repos
            self.server.repos.setdefault(name, {})
            self.server.private.setdefault(name, bool(asked.get("private") or asked.get("visibility") == "private"))
            self.answer({"url": f"{self.server.url}/{name}", "error": "exists"}, 409 if known else 200)
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            modes = {file["path"]: "lfs" if file["path"].endswith(".safetensors") else "regular" for file in files}
            self.answer({"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            wanted = json.loads(body)["objects"]
            for each in wanted:
                each["actions"] = {"upload": {"href": f"{self.server.url}/storage/{each['oid']}"}}
            self.answer({"transfer": "basic", "objects": wanted})
        elif "/commit/" in self.path:
            self.commit(self.path.partition("/api/models/")[2].partition("/commit/")[0], body)
        else:
            self.answer({"error": self.path}, 404)

    def do_PUT(self) -> None:
        self.server.objects[self.path.rpartition("/")[2]] = self.body()
        self.answer({})

    def do_GET(self) -> None:
        self.answer({"error": "Repository not found"}, 404)

    def commit(self, repo: str, body: bytes) -> None:
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                self.server.messages.append(value["summary"])
            elif entry["key"] == "file":
                self.server.repos[repo][value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                content = self.server.objects[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                self.server.repos[repo][value["path"]] = content
        oid = "a" * 40
        self.answer({"success": True, "commitOid": oid, "commitUrl": f"{self.server.url}/{repo}/commit/{oid}"})

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, content: dict[str, Any], status: int = 200) -> None:
        said = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    constants = pytest.importorskip("huggingface_hub.constants")
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # a protocol of its own, with servers of its own
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    yield server
    server.shutdown()
    server.server_close()


def test_a_run_is_published_with_its_card(hub: Hub, run: Run, tmp_path: Path) -> None:
    run.evaluate("test", prompts=["box"], out=run.path, device="cpu", overwrite=True)
    assert run.push_to_hub("me/boxes", token=TOKEN, private=True, message="first") == f"{hub.url}/me/boxes"
    assert (list(hub.repos), hub.private, hub.messages) == (["me/boxes"], {"me/boxes": True}, ["first"])
    published = hub.repos["me/boxes"]
    folder = export_huggingface(run, out=tmp_path / "boxes")
    assert set(published) == {path.name for path in folder.iterdir()}
    for name in ("model.safetensors", "config.json"):
        assert published[name] == (folder / name).read_bytes()
    card = published["README.md"].decode()
    report = json.loads((run.path / "report.json").read_text())
    figures = {
        line["role"]: f"| box | {line['mean']['iou']:.3f} | {line['mean']['dice']:.3f} |" for line in report["summary"]
    }
    info = run.dataset_info
    for said in (
        "library_name: transformers",
        "# boxes",
        info["annotation_hash"],
        "2 train, 1 val, 1 test, in the sets that the data came with",
        f"tiny (zero-shot) {figures['zero-shot']}",
        f"boxes (tuned) {figures['tuned']}",
        "trained on `box`",
        "every other prompt by tokens [0]; other tokens were not trained",
    ):
        assert said in card
    assert str(run.path.parent) not in card

    push_to_hub(run, "me/boxes", token=TOKEN)
    assert len(hub.messages) == 2, "what is there is brought up to date"


def test_other_weights_do_not_borrow_the_figures(hub: Hub, run: Run) -> None:
    run.evaluate("test", prompts=["box"], out=run.path, device="cpu", overwrite=True)
    other = 1 if run.selected_epoch == 0 else 0
    report = json.loads((run.path / "report.json").read_text())
    for each in report["models"]:
        each["kept_epoch"] = other
    (run.path / "report.json").write_text(json.dumps(report))
    push_to_hub(run, "me/boxes", token=TOKEN)
    assert "It was not judged on a test set." in hub.repos["me/boxes"]["README.md"].decode()


def test_without_a_token_nothing_is_asked(hub: Hub, run: Run) -> None:
    with pytest.raises(ConfigError, match=r"no token[\s\S]*hf auth login"):
        push_to_hub(run, "me/boxes")
    with pytest.raises(ConfigError, match="no repository"):
        push_to_hub(run, "boxes", token=TOKEN)
    assert hub.repos == {}


@pytest.mark.parametrize(("token", "why"), [("hf_bad", "token is not valid"), ("hf_reader", "may not write there")])
def test_a_token_that_is_refused(hub: Hub, token: str, why: str) -> None:
    with pytest.raises(ExportError, match=rf"refuses me/boxes: .*{why}[\s\S]*push again"):
        push_to_hub("tiny", "me/boxes", token=token)
    assert hub.repos == {}


def test_a_hub_that_is_not_there(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ExportError, match=r"cannot be reached[\s\S]*127\.0\.0\.1:9[\s\S]*check the connection"):
        push_to_hub("tiny", "me/boxes", token=TOKEN)


def test_the_command_line_publishes(hub: Hub, run: Run) -> None:
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "samfast.cli", "export", str(run.path), "--push", "me/shelled"]
    done = subprocess.run([*command, "--format", "hf"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{hub.url}/me/shelled"
    assert "model.safetensors" in hub.repos["me/shelled"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--format hf" in done.stderr
