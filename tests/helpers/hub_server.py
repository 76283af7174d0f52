"""A stand-in for the Hugging Face Hub: as much of its HTTP as huggingface_hub calls for models."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_of_alice"
OF_HTTPX = "ignore:Use 'content=:DeprecationWarning"  # of how huggingface_hub calls it
READ_ONLY = "hf_may_only_read"


@dataclass
class Repo:
    """A model's repository: every commit is a whole set of files."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    main: str = ""

    def commit(self, files: dict[str, bytes]) -> str:
        sha = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[sha], self.main = files, sha
        return sha

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        sha = self.main if revision == "main" else revision
        return (sha, self.commits[sha]) if sha in self.commits else None


@dataclass
class Hub:
    """Its state, and what it was asked."""

    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)  # by SHA-256, before their commit
    asked: list[str] = field(default_factory=list)

    def make(self, name: str, files: dict[str, bytes], **kind: bool) -> Repo:
        repo = self.repos[name] = Repo(**kind)
        repo.commit(files)
        return repo


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *args) -> None:
        pass

    # --- answers ---------------------------------------------------------------------------------

    def answer(self, body: object = None, status: int = 200, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, status: int, code: str) -> None:
        self.answer({"error": code}, status, X_Error_Code=code, X_Error_Message=code)

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def readable(self, name: str) -> Repo | None:
        """The repository, or None where the refusal has been sent."""
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and self.token != TOKEN):
            self.refuse(401 if not self.token else 404, "RepoNotFound")
        elif repo.gated:
            self.refuse(403, "GatedRepo")
        else:
            return repo
        return None

    def may_write(self) -> bool:
        if self.token == TOKEN:
            return True
        self.refuse(403 if self.token == READ_ONLY else 401, "")
        return False

    # --- requests --------------------------------------------------------------------------------

    def handle_request(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        data = self.rfile.read(length)
        address = urlsplit(self.path)
        path = unquote(address.path)
        self.hub.asked.append(f"{self.command} {path}")
        for pattern, method in ROUTES:
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                query = {name: values[-1] for name, values in parse_qs(address.query).items()}
                method(self, *found.groups(), data=data, query=query)
                return
        self.refuse(501, "NotImplemented")

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def whoami(self, *, data: bytes, query: dict[str, str]) -> None:
        if self.token not in (TOKEN, READ_ONLY):
            self.refuse(401, "")
            return
        self.answer({"type": "user", "name": "alice", "orgs": [{"name": "a-club"}]})

    def create(self, *, data: bytes, query: dict[str, str]) -> None:
        if not self.may_write():
            return
        body = json.loads(data)
        name = f"{body.get('organization') or 'alice'}/{body['name']}"
        exists = name in self.hub.repos
        if not exists:
            self.hub.make(
                name, {".gitattributes": b""}, private=body.get("visibility") == "private"
            )
        self.answer({"url": f"{self.hub.url}/{name}", "name": name}, 409 if exists else 200)

    def info(self, name: str, revision: str = "main", *, data: bytes, query: dict) -> None:
        repo = self.readable(name)
        if repo is None:
            return
        found = repo.at(revision)
        if found is None:
            self.refuse(404, "RevisionNotFound")
            return
        siblings = [{"rfilename": path} for path in found[1]]
        self.answer(
            {"id": name, "modelId": name, "sha": found[0], "private": repo.private, "tags": [],
             "siblings": siblings}
        )  # fmt: skip

    def tree(self, name: str, revision: str, *, data: bytes, query: dict[str, str]) -> None:
        repo = self.readable(name)
        found = None if repo is None else repo.at(revision)
        if found is not None:
            self.answer([describe(path, body) for path, body in sorted(found[1].items())])
        elif repo is not None:
            self.refuse(404, "RevisionNotFound")

    def preupload(self, name: str, revision: str, *, data: bytes, query: dict[str, str]) -> None:
        if self.may_write():
            files = [{"path": file["path"], "uploadMode": mode(file["path"]),
                      "shouldIgnore": False, "oid": None}
                     for file in json.loads(data)["files"]]  # fmt: skip
            self.answer({"files": files})

    def batch(self, name: str, *, data: bytes, query: dict[str, str]) -> None:
        objects = json.loads(data)["objects"]
        for each in objects:
            each["actions"] = {"upload": {"href": f"{self.hub.url}/large/{each['oid']}"}}
        self.answer({"transfer": "basic", "objects": objects})

    def put(self, oid: str, *, data: bytes, query: dict[str, str]) -> None:
        self.hub.large[oid] = data
        self.answer({})

    def commit(self, name: str, revision: str, *, data: bytes, query: dict[str, str]) -> None:
        if not self.may_write():
            return
        repo = self.hub.repos[name]
        files = dict(repo.commits[repo.main])
        for line in data.splitlines():
            item = json.loads(line)
            kind, value = item["key"], item["value"]
            if kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                body = self.hub.large[value["oid"]]
                assert hashlib.sha256(body).hexdigest() == value["oid"]
                files[value["path"]] = body
            elif kind == "deletedFile":
                del files[value["path"]]
        sha = repo.commit(files)
        url = f"{self.hub.url}/{name}/commit/{sha}"
        self.answer({"commitUrl": url, "commitOid": sha, "hookOutput": ""})

    def resolve(self, name: str, revision: str, path: str, *, data: bytes, query: dict) -> None:
        repo = self.readable(name)
        found = None if repo is None else repo.at(revision)
        if repo is None:
            return
        if found is None or path not in found[1]:
            self.refuse(404, "EntryNotFound")
            return
        body = found[1][path]
        etag = describe(path, body)["oid"]
        self.answer(body, X_Repo_Commit=found[0], ETag=f'"{etag}"')

    def yes(self, *, data: bytes, query: dict[str, str]) -> None:
        self.answer({"errors": [], "warnings": []})


NAME = r"([\w.-]+/[\w.-]+)"
ROUTES = [
    (r"GET /api/whoami-v2", Handler.whoami),
    (r"POST /api/repos/create", Handler.create),
    (r"POST /api/validate-yaml", Handler.yes),
    (rf"GET /api/models/{NAME}", Handler.info),
    (rf"GET /api/models/{NAME}/revision/(.+)", Handler.info),
    (rf"GET /api/models/{NAME}/tree/([^/]+)", Handler.tree),
    (rf"POST /api/models/{NAME}/preupload/(.+)", Handler.preupload),
    (rf"POST /api/models/{NAME}/commit/(.+)", Handler.commit),
    (rf"POST /{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    (r"PUT /large/(\w+)", Handler.put),
    (rf"(?:GET|HEAD) /{NAME}/resolve/([^/]+)/(.+)", Handler.resolve),
]


def mode(path: str) -> str:
    """As the Hub's .gitattributes decide."""
    return "lfs" if path.endswith((".safetensors", ".mp4", ".png")) else "regular"


def describe(path: str, body: bytes) -> dict:
    """A file of a tree."""
    blob = hashlib.sha1(f"blob {len(body)}\0".encode() + body).hexdigest()
    return {"type": "file", "path": path, "size": len(body), "oid": blob}


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers on this machine while the block runs."""
    hub = Hub()
    handler = type("HandlerOfOneHub", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
