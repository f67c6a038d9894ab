"""Artifacts logged as the client does it, request by request, for tests in this process."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from typing import Any
from urllib.parse import urlsplit

from tests.service.serving import KEY, Asked

CREATE = """mutation M($input: CreateArtifactInput!) { createArtifact(input: $input) {
  artifact { id state artifactSequence { latestArtifact { id } } } } }"""
FILES = """mutation M($input: CreateArtifactFilesInput!) { createArtifactFiles(input: $input) {
  files { edges { node { name uploadUrl artifact { id } } } } } }"""
MANIFEST = """mutation M($input: CreateArtifactManifestInput!) { createArtifactManifest(input: $input) {
  artifactManifest { id file { uploadUrl uploadHeaders } } } }"""
COMMIT = "mutation M($id: ID!) { commitArtifact(input: {artifactID: $id}) { artifact { id versionIndex } } }"
LOOK = """query Q($id: ID!) { artifact(id: $id) { state versionIndex digest size fileCount aliases { alias } tags { name }
  files { totalCount edges { node { name directUrl sizeBytes } } } currentManifest { file { directUrl } } } }"""


def md5(content: bytes) -> str:
    """Return an MD5 in base64."""
    return b64encode(hashlib.md5(content).digest()).decode()


def digest_of(contents: dict[str, bytes]) -> str:
    """Return the digest of files by name, as the client computes it."""
    lines = "".join(f"{name}:{md5(contents[name])}\n" for name in sorted(contents))
    return hashlib.md5(f"wandb-artifact-manifest-v1\n{lines}".encode()).hexdigest()


def path_of(address: str) -> str:
    """Return an address without its host."""
    return urlsplit(address).path


class Logged:
    """One version that is being logged by a user to a project."""

    def __init__(self, asked: Asked, contents: dict[str, bytes], key: str = KEY, **values: Any) -> None:
        self.asked, self.contents, self.key = asked, contents, key
        given = {"artifactCollectionName": "things", "artifactTypeName": "dataset", "enableDigestDeduplication": True}
        given |= {"entityName": "someone", "projectName": "tried", "digest": digest_of(contents), **values}
        self.place = {name: given[name] for name in ("entityName", "projectName")}
        made = asked.ask(CREATE, key=key, input=given)["createArtifact"]["artifact"]
        self.id, self.state = str(made["id"]), made["state"]

    def announce(self, contents: dict[str, bytes] | None = None) -> dict[str, str | None]:
        """Announce the files; return their addresses, None for those that need no upload."""
        specs = [{"artifactID": self.id, "name": name, "md5": md5(text)} for name, text in (contents or self.contents).items()]
        answer = self.asked.ask(FILES, key=self.key, input={"artifactFiles": specs, "storageLayout": "V2"})
        nodes = [edge["node"] for edge in answer["createArtifactFiles"]["files"]["edges"]]
        return {node["name"]: node["uploadUrl"] for node in nodes}

    def upload(self) -> dict[str, str | None]:
        """Announce the files and upload those that are wanted."""
        addresses = self.announce()
        for name, address in addresses.items():
            if address is not None:
                assert self.asked.client.put(path_of(address), content=self.contents[name]).status_code == 200
        return addresses

    def list_files(self, entries: dict[str, Any] | None = None, content: bytes | None = None, **values: Any) -> Any:
        """Send the manifest; return the answer to its upload."""
        known = {name: {"digest": md5(text), "size": len(text)} for name, text in self.contents.items()}
        text = content or json.dumps({"version": 1, "contents": entries or known}).encode()
        given = {"artifactID": self.id, "name": "wandb_manifest.json", "digest": md5(text), "runName": "", "type": "FULL"}
        answer = self.asked.ask(MANIFEST, key=self.key, input={**given, **self.place, **values})
        address = answer["createArtifactManifest"]["artifactManifest"]["file"]["uploadUrl"]
        return self.asked.client.put(path_of(address), content=text)

    def commit(self) -> dict[str, Any]:
        """Commit, and return the whole answer."""
        return self.asked.told(COMMIT, key=self.key, id=self.id)

    def done(self) -> Logged:
        """Do whatever is left to do."""
        if self.state != "COMMITTED":
            self.upload()
            assert self.list_files().status_code == 200
            answer = self.commit()
            assert "errors" not in answer, answer
        return self

    def look(self, key: str | None = None) -> Any:
        """Return what a user sees of it."""
        return self.asked.ask(LOOK, key=key or self.key, id=self.id)["artifact"]
