"""A small stand-in for the Hugging Face Hub, on this machine alone."""

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote


class HubStub(ThreadingHTTPServer):
    """Serves repositories from memory; `with HubStub() as hub:` starts and stops it.

    Attributes:
        repositories: Name of each to its commits, oldest first: hash and files by path. The newest
            is `main`.
        requests: Method and path of every request so far.
        token: Without it, as `Bearer`, every request is refused, unless it is `None`.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = {}
        self.requests = []
        self.token = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def commit(self, name, files):
        """Add or replace files of a repository, and return the hash of the commit."""
        commits = self.repositories.setdefault(name, [])
        before = commits[-1][1] if commits else {}
        digest = hashlib.sha1(f"{name}{len(commits)}".encode()).hexdigest()
        commits.append((digest, {**before, **files}))
        return digest

    def find(self, name, revision):
        """Return hash and files of a commit, or `None`."""
        commits = self.repositories[name]
        wanted = [commit for commit in commits if commit[0] == revision]
        return commits[-1] if revision == "main" else (wanted or [None])[0]


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def _answer(self, status, content=b"", headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value, status=200):
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _fail(self, status, code):
        self._answer(status, b"", {"X-Error-Code": code, "X-Error-Message": f"{code} of the stub"})

    def _refused(self):
        self.server.requests.append((self.command, self.path))
        token = self.server.token
        if token is None or self.headers.get("Authorization") == f"Bearer {token}":
            return False
        self._fail(401, "RepoNotFound")
        return True

    def do_GET(self):
        if self._refused():
            return
        path = unquote(self.path.split("?")[0])
        if path.startswith("/api/models/"):  # older clients ask how large files are stored
            name = "/".join(path.split("/")[3:5])
            self._json({"id": name, "tags": [], "siblings": [], "xetEnabled": False})
            return
        user, name, _, revision, file = (path.strip("/").split("/", 4) + [""] * 5)[:5]
        if f"{user}/{name}" not in self.server.repositories:
            self._fail(404, "RepoNotFound")
            return
        commit = self.server.find(f"{user}/{name}", revision)
        if commit is None:
            self._fail(404, "RevisionNotFound")
        elif file not in commit[1]:
            self._fail(404, "EntryNotFound")
        else:
            etag = hashlib.sha256(commit[1][file]).hexdigest()
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit[0]}
            self._answer(200, commit[1][file], headers)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self):
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._refused():
            return
        parts = unquote(self.path.split("?")[0]).strip("/").split("/")
        if parts == ["api", "repos", "create"]:
            asked = json.loads(content)
            name = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
            self.server.repositories.setdefault(name, [])
            self._json({"url": f"{self.server.url}/{name}", "name": name, "id": name})
        elif parts == ["api", "validate-yaml"]:
            self._json({"errors": [], "warnings": []})
        elif parts[4:5] == ["preupload"]:
            files = [file["path"] for file in json.loads(content)["files"]]
            answer = {"uploadMode": "regular", "shouldIgnore": False}
            self._json({"files": [{"path": path, **answer} for path in files]})
        else:  # commit
            lines = [json.loads(line) for line in content.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            name = "/".join(parts[2:4])
            digest = self.server.commit(name, files)
            self._json(
                {
                    "success": True,
                    "commitUrl": f"{self.server.url}/{name}/commit/{digest}",
                    "commitOid": digest,
                }
            )
