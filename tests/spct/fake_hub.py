"""A fake of the Hugging Face hub on loopback: what huggingface_hub asks of it to make a repository and upload a folder to it.

It keeps what arrives, so that a test compares files. Large files come by the LFS protocol; Xet, which the real hub prefers, is
switched off (HF_HUB_DISABLE_XET).
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LARGE = ".safetensors"


class FakeHub:
    """The state of the hub.

    Attributes:
        token: the only one that it knows.
        repositories: {name: whether it is private}.
        files: {name: {file: content}}.
        fail: status with which a request is answered whose path holds the key.
    """

    def __init__(self) -> None:
        self.url, self.token = "", "hf_secret"
        self.repositories: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.fail: dict[str, int] = {}
        self.stored: dict[str, bytes] = {}


@contextmanager
def started() -> Iterator[FakeHub]:
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None: ...

        def answer(self, status: int, value: Any, **headers: str) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            for name, text in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, text)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def refused(self) -> bool:
            status = next((status for part, status in hub.fail.items() if part in self.path), 0)
            if not status and "/storage/" not in self.path and self.headers.get("Authorization") != f"Bearer {hub.token}":
                status = 401
            if status:
                self.answer(status, {"error": "no"}, **{"X-Error-Message": "no right to write here"})
            return bool(status)

        def do_GET(self) -> None:
            if not self.refused():
                self.answer(200, {"id": "x", "sha": "0" * 40, "siblings": []})

        do_HEAD = do_GET  # noqa: N815 - as http.server calls it

        def do_PUT(self) -> None:
            hub.stored[self.path.rpartition("/")[2]] = self.body()
            self.answer(200, {})

        def do_POST(self) -> None:
            body = self.body()
            if self.refused():
                return
            path = self.path.partition("?")[0]
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
                if name in hub.repositories:
                    self.answer(409, {"error": "You already created this model repo", "url": f"{hub.url}/{name}"})
                    return
                hub.repositories[name] = asked.get("visibility") == "private"
                self.answer(200, {"url": f"{hub.url}/{name}"})
            elif path == "/api/validate-yaml":  # the head of the model card
                self.answer(200, {"errors": [], "warnings": []})
            elif "/preupload/" in path:
                files = [
                    {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(LARGE) else "regular", "shouldIgnore": False}
                    for f in json.loads(body)["files"]
                ]
                self.answer(200, {"files": files})
            elif path.endswith("/info/lfs/objects/batch"):
                objects = [
                    {**item, "actions": {"upload": {"href": f"{hub.url}/storage/{item['oid']}", "header": {}}}}
                    for item in json.loads(body)["objects"]
                ]
                self.answer(200, {"transfer": "basic", "objects": objects})
            else:
                self.commit(path, body)

        def commit(self, path: str, body: bytes) -> None:
            name = path.removeprefix("/api/models/").partition("/commit/")[0]
            files = hub.files.setdefault(name, {})
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    content = hub.stored[value["oid"]]
                    assert hashlib.sha256(content).hexdigest() == value["oid"]
                    files[value["path"]] = content
            commit = {"commitUrl": f"{hub.url}/{name}/commit/abc", "commitOid": "abc", "pullRequestUrl": None}
            self.answer(200, {"success": True, **commit})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
