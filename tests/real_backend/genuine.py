"""An embedded platform seen as a genuine OpenWhisk: what only ours tells, and what OpenWhisk leaves out, is hidden."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx

Change = Callable[[dict[str, Any]], None]
"""What becomes of the record of an activation, beside that."""


class Genuine(httpx.AsyncHTTPTransport):
    """Hides the endpoints and the annotation of the embedded platform; notes what is asked.

    Attributes:
        actions: bodies of all actions that were put, by name.
        calls: bodies of all invocations, in order.
        deleted: names of deleted actions.

    Args:
        change: what else becomes of a record; it is told the record.
        kinds: whether the list of runtimes keeps our own kind.
    """

    def __init__(self, change: Change | None = None, kinds: bool = True) -> None:
        super().__init__()
        self.actions: dict[str, dict[str, Any]] = {}
        self.calls: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self._change = change
        self._kinds = kinds

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if "/api/v1/tyche" in path:
            return httpx.Response(404, json={"error": "The requested resource could not be found."}, request=request)
        body = await request.aread()
        if "/actions/" in path and request.method == "PUT":
            self.actions[path.rpartition("/")[2]] = json.loads(body)
        if "/actions/" in path and request.method == "POST":
            self.calls.append(json.loads(body))
        if "/actions/" in path and request.method == "DELETE":
            self.deleted.append(path.rpartition("/")[2])
        answer = await super().handle_async_request(request)
        text = await answer.aread()
        found = json.loads(text)
        if path == "/" and not self._kinds:
            found["runtimes"].pop("tyche")
        if isinstance(found, dict) and "activationId" in found and "response" in found:
            self._hide(found)
        return httpx.Response(answer.status_code, json=found, request=request)

    def _hide(self, record: dict[str, Any]) -> None:
        record["annotations"] = [each for each in record["annotations"] if each["key"] != "tyche"]
        response = record["response"]
        if response["status"] == "application error":
            response["result"] = {"error": response["result"]["error"]}
        if self._change is not None:
            self._change(record)
