"""A local server that behaves like the Hugging Face hub for reading a repository and committing to it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """The routes of huggingface.co for reading a repository and committing to it."""

    repositories: dict[str, dict[str, bytes]]
    blobs: dict[str, bytes]  # uploaded by hash, before a commit names it
    commits: list[dict]

    def do_HEAD(self):
        self.resolve()

    def do_GET(self):
        self.wfile.write(self.resolve())

    def do_PUT(self):
        oid = self.path.rpartition("/")[2]
        self.blobs[oid] = self.body()
        assert hashlib.sha256(self.blobs[oid]).hexdigest() == oid
        self.answer(200)

    def do_POST(self):
        body = self.body()
        if self.path == "/api/repos/create":
            name = json.loads(body)["name"]
            self.repositories.setdefault(f"me/{name.rpartition('/')[2]}", {})
            self.answer(200, {"url": f"{self.address}/me/{name.rpartition('/')[2]}"})
        elif self.path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular"}
                for f in json.loads(body)["files"]
            ]
            self.answer(200, {"files": [file | {"shouldIgnore": False} for file in files]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                thing | {"actions": {"upload": {"href": f"{self.address}/lfs/{thing['oid']}"}}}
                for thing in json.loads(body)["objects"]
            ]
            self.answer(200, {"transfer": "basic", "objects": objects})
        elif match := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            self.commit(self.repositories[match[1]], [json.loads(line) for line in body.splitlines()])
            self.answer(200, {"commitUrl": f"{self.address}/{match[1]}/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self.answer(404)

    def commit(self, files, lines):
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.commits.append(value | {"authorization": self.headers["Authorization"]})
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.blobs[value["oid"]]

    def resolve(self):
        """Headers and bytes of a file of a repository."""
        match = re.fullmatch(rf"/([^/]+/[^/]+)/resolve/(?:main|{COMMIT})/(.+)", self.path)
        if not match or match[1] not in self.repositories:
            return self.answer(404, headers={"X-Error-Code": "RepoNotFound"})
        if match[2] not in self.repositories[match[1]]:
            return self.answer(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        content = self.repositories[match[1]][match[2]]
        etag = hashlib.sha256(content).hexdigest()
        return self.answer(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'})

    def answer(self, status, content=b"", headers=None):
        body = json.dumps(content).encode() if isinstance(content, dict) else content
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command in ("POST", "PUT"):
            self.wfile.write(body)
        return body

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def log_message(self, *_):
        pass
