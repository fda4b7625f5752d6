"""What a genuine OpenWhisk answered, replayed on the embedded platform.

exchanges.jsonl was recorded on 2026-11-30 from the standalone server of Apache OpenWhisk, built from its sources of
August 2026 (commit 1fae641), on one fresh namespace: requests in their order, with status, headers and body of each
answer.  ``<...>`` stands for what varies; numbers left out were made too, and changed nothing.  Messages from inside
a container are those of a stand-in runtime of the kind python:3.11; here that kind is of the Python at hand, and the
time limit that is exceeded is 200 ms instead of 1000.  Whether a call finds a warm container depends on how long the
last one read its log, so ``initTime`` is not compared.

differences.yaml lists every answer that differs, with the place and the reason.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from real_backend.platform.config import Limits, NodeSpec
from tests.real_backend.platform.site import KEY, Open

HERE = Path(__file__).parent
KIND = f"python:3.{sys.version_info.minor}"
IGNORED = ("tyche", "initTime")
OURS = "annotations.tyche"
"""Annotation that every record of ours has in addition; listed as the difference of all records."""

LIMITS = Limits(invocations_per_minute=10_000, concurrent_invocations=1000)
"""Those of the recorded server, where they are not the defaults."""


@dataclass(frozen=True)
class Difference:
    """An entry of differences.yaml."""

    numbers: tuple[int, ...]
    differs: tuple[str, ...]
    reason: str


def recorded() -> list[dict[str, Any]]:
    text = (HERE / "exchanges.jsonl").read_text(encoding="utf-8").replace("python:3.11", KIND)
    for one, other in (
        ('"timeout": 1000}', '"timeout": 200}'),
        ("limits of 1000 milliseconds", "limits of 200 milliseconds"),
    ):
        assert one in text
        text = text.replace(one, other)
    return [json.loads(line) for line in text.splitlines()]


def listed() -> list[Difference]:
    entries = yaml.safe_load((HERE / "differences.yaml").read_text(encoding="utf-8"))
    return [Difference(tuple(each["n"]), tuple(each["differs"]), each["reason"]) for each in entries]


def closed(text: str) -> Any:
    """JSON that was cut off, with its open ends closed."""
    ends: list[str] = []
    quoted = escaped = False
    for letter in text:
        if escaped:
            escaped = False
        elif quoted:
            escaped, quoted = letter == "\\", letter != '"'
        elif letter == '"':
            quoted = True
        elif letter in "{[":
            ends.append("}" if letter == "{" else "]")
        elif letter in "}]":
            ends.pop()
    text += '"' * quoted
    for more in ("", ": null"):
        try:
            return json.loads(text + more + "".join(reversed(ends)))
        except ValueError:
            continue
    raise AssertionError(text)


def places(expected: Any, actual: Any, place: str, cut: bool = False) -> Iterator[str]:
    """Where two values differ; ``cut`` if the expected one is cut off at its end."""
    if isinstance(expected, str) and (re.fullmatch(r"<\w+>", expected) or (cut and expected.startswith("<"))):
        return
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in sorted({*expected, *actual}):
            last = cut and key == list(expected)[-1]
            if key not in actual or (key not in expected and not cut):
                yield f"{place}.{key}"
            elif key in expected:
                yield from places(expected[key], actual[key], f"{place}.{key}", last)
    elif isinstance(expected, list) and isinstance(actual, list):
        if place.endswith(".annotations"):
            if any(each["key"] == "tyche" for each in actual):
                yield OURS
            expected, actual = ([each for each in one if each["key"] not in IGNORED] for one in (expected, actual))
        if len(expected) > len(actual) or (len(expected) < len(actual) and not cut):
            yield place
            return
        for k, (one, other) in enumerate(zip(expected, actual, strict=False)):
            yield from places(one, other, f"{place}[{k}]", cut and k == len(expected) - 1)
    elif cut and isinstance(expected, str) and isinstance(actual, str):
        if not actual.startswith(expected):
            yield place
    elif type(expected) is not type(actual) or expected != actual:
        yield place


def compare(exchange: dict[str, Any], answer: httpx.Response) -> set[str]:
    """Places in which an answer is not the recorded one."""
    found: set[str] = set()
    if answer.status_code != exchange["status"]:
        found.add("status")
    for name in ("content-type", "www-authenticate", "x-openwhisk-activation-id"):
        one, other = exchange["headers"].get(name), answer.headers.get(name)
        if (one or "").lower() != (other or "").lower() and not (one == "<id>" and other):
            found.add(name)
    expected: Any = exchange["body"]
    cut = isinstance(expected, str) and expected.endswith("...")
    if cut:
        expected = closed(expected.removesuffix("..."))
    try:
        actual = answer.json()
    except ValueError:
        actual = answer.text
    return found | set(places(expected, actual, "body", cut))


async def send(http: httpx.AsyncClient, exchange: dict[str, Any], newest: str) -> httpx.Response:
    """Make a recorded request; ``newest`` stands in for the id of the activation that was recorded."""
    request = exchange["request"]
    raw = request.get("raw")
    if raw is not None and (size := re.fullmatch(r"<(\d+) bytes>", raw)):
        raw = json.dumps({"x": "x" * (int(size[1]) - len('{"x": ""}'))})
    made = http.build_request(
        request["method"],
        "http://platform" + re.sub(r"(?<=activations/)(?!0+(/|$))[0-9a-f]{32}(?=/|$)", newest, request["path"]),
        params=request.get("params"),
        json=request.get("json"),
        content=raw,
        headers=request.get("headers"),
    )
    user, _, password = KEY.partition(":")
    return await http.send(made, auth=None if request.get("auth") == "none" else (user, password))


@pytest.mark.anyio
async def test_the_platform_answers_as_a_genuine_one_or_says_why_not(open_site: Open) -> None:
    found: dict[int, set[str]] = {}
    newest = ""
    async with open_site(limits=LIMITS, nodes=(NodeSpec(name="invoker0", memory_mib=4096),)) as site:
        for exchange in recorded():
            answer = await send(site.http, exchange, newest)
            if exchange["about"] == "newest":
                newest = answer.json()[0]["activationId"]
            found[exchange["n"]] = compare(exchange, answer)
    problems = [*unlisted(found, listed()), *stale(found, listed())]
    assert not problems, "\n".join(problems)


def unlisted(found: dict[int, set[str]], listed: list[Difference]) -> Iterator[str]:
    """Places in which an answer differs without an entry."""
    for number, differs in found.items():
        allowed = [each for entry in listed if number in (entry.numbers or found) for each in entry.differs]
        more = sorted(each for each in differs if not any(below(each, place) for place in allowed))
        if more:
            yield f"{number}: differs in {', '.join(more)}"


def stale(found: dict[int, set[str]], listed: list[Difference]) -> Iterator[str]:
    """Entries, or parts of them, whose answers agree."""
    for entry in listed:
        for place in entry.differs:
            agree = [n for n in entry.numbers or found if not any(below(each, place) for each in found[n])]
            if agree and (entry.numbers or len(agree) == len(found)):
                yield f"{', '.join(map(str, agree))}: {place} agrees; differences.yaml says otherwise"


def below(place: str, above: str) -> bool:
    return place == above or (place.startswith(above) and place[len(above)] in ".[")


def test_a_difference_without_an_entry_and_an_entry_without_a_difference_are_both_found() -> None:
    entries = [Difference((1, 2), ("status", "body.a"), "why"), Difference((), ("annotations.tyche",), "ours")]
    agreeing = {1: {"status", "body.a.b", "annotations.tyche"}, 2: {"status", "body.a"}}
    assert [*unlisted(agreeing, entries), *stale(agreeing, entries)] == []
    assert list(unlisted({**agreeing, 3: {"body.ab"}}, entries)) == ["3: differs in body.ab"]
    (gone,) = stale({1: {"status", "body.a", "annotations.tyche"}, 2: {"status"}}, entries)
    assert gone.startswith("2: body.a agrees")
    assert all(entry.reason.strip() and entry.differs for entry in listed())


def test_what_is_masked_or_cut_off_agrees_with_anything_and_nothing_else_does() -> None:
    assert list(places({"a": "<id>", "b": [1]}, {"a": 5, "b": [1]}, "body")) == []
    assert list(places({"a": 1}, {"a": True}, "body")) == ["body.a"]
    assert list(places({"a": 1}, {"a": 1, "b": 2}, "body")) == ["body.b"]
    assert list(places([1, 2], [1], "body")) == ["body"]
    cut = closed('[{"a": 1, "b": "xy')
    assert list(places(cut, [{"a": 1, "b": "xyz"}, 2], "body", cut=True)) == []
    assert list(places(cut, [{"a": 2, "b": "xz"}], "body", cut=True)) == ["body[0].a", "body[0].b"]
