"""A stand-in for W&B's server on this machine: enough of its protocol for `wandb agent`, a run, and reading runs back.

It hands out a fixed list of configurations, as a sweep would, and keeps what the clients send. For tests only.
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

KEY = "local-" + "0" * 40
ENTITY, PROJECT, SWEEP = "someone", "tried", "sweep001"
PROJECT_NODE = {"id": "p1", "name": PROJECT, "entity": {"id": "e1", "name": ENTITY}}


class StandInServer:
    """Runs while used as a context manager; `url` is its address, `runs` what was received, by run id."""

    def __init__(self, configurations: list[dict[str, Any]]) -> None:
        self.waiting = list(configurations)
        self.runs: dict[str, dict[str, Any]] = {}
        self.definition: dict[str, Any] | None = {}  # None: there is no such sweep
        self.operations: list[str] = []
        self.busy = 0  # how many requests for histories are still answered by 429
        self.unknown: list[str] = []  # operations that the client asked for in vain
        self._lock = threading.Lock()

    def __enter__(self) -> StandInServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer: dict[str, Any] = {}  # also to the client's own telemetry
                with outer._lock:
                    if self.path == "/graphql" and outer.busy and b"HistoryPage" in content:
                        outer.busy -= 1
                        self.send_response(429)
                        self.send_header("Retry-After", "1")
                        self.send_header("Content-Length", "0")
                        self.end_headers()
                        return
                    if self.path == "/graphql":
                        answer = outer.graphql(json.loads(content))
                    elif self.path.endswith("/file_stream"):
                        answer = outer.file_stream(self.path, json.loads(content))
                self.reply(json.dumps(answer).encode())

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.reply(b"")

            def reply(self, content: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *values: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def graphql(self, body: dict[str, Any]) -> dict[str, Any]:
        found = re.search(r"\b(?:query|mutation)\s+(\w+)", body["query"])
        name = found.group(1) if found else "?"
        self.operations.append(name)
        answer = getattr(self, f"answer_{name}", None)
        if answer is None:
            self.unknown.append(name)
            return {"data": None, "errors": [{"message": f"{name} is not served here"}]}
        return {"data": answer(body.get("variables") or {})}

    def file_stream(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[path.split("/")[-2]]
        for file, chunk in body.get("files", {}).items():
            lines = run["files"].setdefault(file, {})
            for number, line in enumerate(chunk["content"], start=chunk["offset"]):
                lines[number] = line
        if body.get("complete"):
            run["state"] = "failed" if body.get("exitcode") else "finished"
        return {}

    def rows(self, run: str) -> list[dict[str, Any]]:
        """Return the history rows that a run sent."""
        return [json.loads(line) for _, line in sorted(self.runs[run]["files"].get("wandb-history.jsonl", {}).items())]

    def summary(self, run: str) -> dict[str, Any]:
        """Return the last summary that a run sent."""
        lines = self.runs[run]["files"].get("wandb-summary.json", {})
        return json.loads(lines[max(lines)]) if lines else {}

    def answer_Viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        viewer = {"id": "u1", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}", "teams": teams}
        return {"viewer": viewer, "serverInfo": {"cliVersionInfo": {}, "latestLocalVersionInfo": None}}

    answer_GetViewer = answer_GetDefaultEntity = answer_Viewer

    def answer_ServerFeaturesQuery(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def answer_OrganizationCoreWeaveOrganizationID(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": None}}

    def answer_UpsertSweep(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.definition = yaml.safe_load(variables["config"])
        return {"upsertSweep": {"sweep": {"name": SWEEP, "project": PROJECT_NODE}, "configValidationWarnings": []}}

    def answer_SweepWithRuns(self, _: dict[str, Any]) -> dict[str, Any]:
        if self.definition is None:
            return {"project": {"sweep": None}}
        sweep = {"id": "s1", "name": SWEEP, "method": "bayes", "state": "RUNNING", "description": "", "runs": {"edges": []}}
        config = yaml.safe_dump(self.definition)
        return {"project": {"sweep": {**sweep, "config": config, "createdAt": None, "bestLoss": None, "__typename": "Sweep"}}}

    answer_GetSweepLegacy = answer_SweepWithRuns

    def answer_GetSweep(self, variables: dict[str, Any]) -> dict[str, Any]:
        found = self.answer_SweepWithRuns(variables)
        if found["project"]["sweep"] is not None:
            found["project"]["sweep"] |= {"createdAt": "2026-11-21T00:00:00Z", "runCount": len(self.runs)}
        return found

    def answer_CreateAgent(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"createAgent": {"agent": {"id": "a1"}}}

    def answer_Heartbeat(self, variables: dict[str, Any]) -> dict[str, Any]:
        commands: list[dict[str, Any]] = []
        if not json.loads(variables.get("runState") or "{}"):
            if self.waiting:
                values = {name: {"value": value} for name, value in self.waiting.pop(0).items()}
                run_id = f"run{len(self.waiting):05d}"
                commands = [{"type": "run", "run_id": run_id, "program": self.definition["program"], "args": values}]
            else:
                commands = [{"type": "exit"}]
        return {"agentHeartbeat": {"agent": {"id": "a1"}, "commands": json.dumps(commands)}}

    def answer_UpsertBucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.setdefault(variables["name"], {"config": {}, "files": {}, "state": "running", "sweep": None})
        run["config"] = json.loads(variables.get("config") or "null") or run["config"]
        run["sweep"] = variables.get("sweep") or run["sweep"]
        run["group"] = variables.get("groupName") or run.get("group")
        bucket = {"id": f"id-{variables['name']}", "name": variables["name"], "displayName": variables["name"], "description": ""}
        bucket |= {"config": json.dumps(run["config"]), "sweepName": run["sweep"], "historyLineCount": 0, "project": PROJECT_NODE}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def answer_CreateRunFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/put"} for name in variables["files"]]
        return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}

    def answer_CreateArtifact(self, _: dict[str, Any]) -> dict[str, Any]:
        sequence = {"id": "q1", "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": "t1", "state": "COMMITTED", "artifactSequence": sequence}}}

    def answer_RunResumeStatus(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"model": None}

    def answer_ArtifactType(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": {"artifactType": {"name": "run_table"}}}}

    def answer_Runs(self, _: dict[str, Any]) -> dict[str, Any]:
        edges = [{"node": self._node(name), "cursor": name} for name in sorted(self.runs)]
        runs = {"edges": edges, "pageInfo": {"hasNextPage": False, "endCursor": None}, "totalCount": len(edges)}
        return {"project": {"internalId": "1", "runCount": len(edges), "readOnly": False, "runs": runs}}

    def answer_Clients(self, _: dict[str, Any]) -> dict[str, Any]:
        told = [
            {"name": name, "wandbConfig": json.dumps(run["config"].get("_wandb", {}).get("value", {}))}
            for name, run in self.runs.items()
        ]
        page = {"hasNextPage": False, "endCursor": None}
        return {"project": {"runs": {"edges": [{"node": node} for node in told], "pageInfo": page}}}

    def _node(self, name: str) -> dict[str, Any]:
        run, rows = self.runs[name], self.rows(name)
        node = {"id": f"id-{name}", "name": name, "displayName": name, "tags": [], "sweepName": run["sweep"], "state": run["state"]}
        node |= {"group": run["group"], "jobType": "sweep", "commit": None, "readOnly": False, "description": "", "notes": None}
        node |= {"createdAt": "2026-11-21T00:00:00Z", "heartbeatAt": "2026-11-21T00:00:00Z", "historyLineCount": len(rows)}
        node |= {"user": {"name": ENTITY, "username": ENTITY}, "config": json.dumps(run["config"]), "systemMetrics": "{}"}
        keys = {"lastStep": rows[-1]["_step"], "sets": [], "keys": {}} if rows else None
        return {**node, "summaryMetrics": json.dumps(self.summary(name)), "historyKeys": keys, "projectId": "1"}

    def answer_RunParquetHistory(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": [{"_step": 0}]}}}}

    def answer_HistoryPage(self, variables: dict[str, Any]) -> dict[str, Any]:
        low, high = int(variables["minStep"]), int(variables["maxStep"])
        rows = [json.dumps(row) for row in self.rows(variables["run"]) if low <= row["_step"] < high]
        return {"project": {"run": {"history": rows}}}

    def answer_RunHistoryKeys(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"run": {"historyKeys": self._node(variables.get("run") or variables["name"])["historyKeys"]}}}
