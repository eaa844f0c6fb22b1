"""A stand-in for W&B's server, which keeps what `wandb sync` uploads as the real one does: a run's history is a list of lines,
and lines that are sent for an offset replace those that stand there. It answers what the client asks on the way, no more."""

import gzip
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HISTORY, EVENTS, LOG = "wandb-history.jsonl", "wandb-events.jsonl", "output.log"


@dataclass(kw_only=True, slots=True)
class UploadedRun:
    """What the server has of a run."""

    group: str = ""
    """Its group."""
    name: str = ""
    """The name that people see."""
    config: dict[str, Any] = field(default_factory=dict)
    """Its configuration."""
    lines: dict[str, list[str]] = field(default_factory=dict)
    """The lines of each file that is streamed."""

    def series(self, metric: str) -> list[float]:
        """Return every value of one metric, in the order of the history's lines."""
        return [row[metric] for row in map(json.loads, self.lines.get(HISTORY, [])) if metric in row]


class FakeWandbServer(ThreadingHTTPServer):
    """`runs` holds what was uploaded, by id; `asked` the operations, for when a client asks something that is not answered."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, UploadedRun] = {}
        self.known = True  # whether the key is
        self.reports: list[dict[str, Any]] = []
        self.projects = {"judges"}  # of the user `me`
        self.asked: list[str] = []
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def graphql(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a question of the client."""
        operation = query.split("(")[0].split("{")[0].split()[-1]
        self.asked.append(operation)
        if operation == "RunResumeStatus":
            return {
                "model": {
                    "id": "m",
                    "name": "p",
                    "entity": {"id": "e", "name": "me"},
                    "bucket": self._status(variables["name"]),
                }
            }
        if operation == "UpsertBucket":
            return {"upsertBucket": {"bucket": self._upsert(variables), "inserted": True}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        if operation == "upsertView":
            self.reports.append(dict(variables))
            project = {"id": "p", "name": variables["projectName"], "entityName": variables["entityName"]}
            view = {**variables, "id": f"r{len(self.reports)}", "project": project}
            return {"upsertView": {"view": view, "inserted": True}}
        if operation == "ProjectInternalId":
            return {"project": {"id": "p", "internalId": "1"} if variables["projectName"] in self.projects else None}
        if operation == "GetProjects":
            return {"models": {"edges": [], "pageInfo": {"endCursor": None, "hasNextPage": False}}}
        if operation == "Viewer":
            return {"viewer": {"id": "v", "entity": "me", "flags": "{}", "teams": {"edges": []}}}
        return {}

    def _status(self, name: str) -> dict[str, Any] | None:
        run = self.runs.get(name)
        if run is None:
            return None
        history = run.lines.get(HISTORY, [])
        return {
            "id": name,
            "name": name,
            "displayName": run.name,
            "summaryMetrics": history[-1] if history else "{}",
            "logLineCount": len(run.lines.get(LOG, [])),
            "historyLineCount": len(history),
            "eventsLineCount": len(run.lines.get(EVENTS, [])),
            "historyTail": json.dumps(history[-1:]),
            "eventsTail": json.dumps(run.lines.get(EVENTS, [])[-1:]),
            "config": json.dumps(run.config),
            "tags": [],
            "notes": None,
            "wandbConfig": json.dumps({"t": 1}),
        }

    def _upsert(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        run = self.runs.setdefault(variables["name"], UploadedRun())
        run.group = variables.get("groupName") or run.group
        run.name = variables.get("displayName") or run.name
        run.config |= json.loads(variables.get("config") or "{}")
        project = {"id": "p", "name": variables.get("project") or "p", "entity": {"id": "e", "name": "me"}}
        count = len(run.lines.get(HISTORY, []))
        return {"id": "b", "name": variables["name"], "displayName": run.name, "project": project, "historyLineCount": count}

    def stream(self, name: str, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Take lines of a run's files, each at its offset."""
        run = self.runs.setdefault(name, UploadedRun())
        for file, sent in files.items():
            lines, offset = run.lines.setdefault(file, []), int(sent["offset"])
            lines[offset:] = [*lines[offset:offset], *sent["content"]]


class _Handler(BaseHTTPRequestHandler):
    server: FakeWandbServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        asked = json.loads(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body or b"{}")
        with self.server.lock:
            if not self.server.known:
                self._say({"errors": [{"message": "permission denied"}]}, status=401)
                return
            if self.path.endswith("/graphql"):
                answer: dict[str, Any] = {"data": self.server.graphql(asked["query"], asked.get("variables") or {})}
            else:  # /files/<entity>/<project>/<run>/file_stream
                self.server.stream(self.path.split("/")[-2], asked.get("files") or {})
                answer = {"exitcode": None, "limits": {}}
        self._say(answer)

    def do_GET(self) -> None:
        self._say({})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self._say({})

    def _say(self, answer: Mapping[str, Any], status: int = 200) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass
