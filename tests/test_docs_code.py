"""All code that the documentation shows runs, but for what a line above it says that it needs.

The line is ``*Needs X.*`` or ``*Needs X and Y.*``, for every reader to see; :data:`NEEDS` has what may stand there.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.test_docs import PAGES, ROOT, of_page
from tyche_env.cli import run

TRACES, CONTAINERS = "the trace files", "real containers"
NEEDS = {
    TRACES: r"TYCHE_TRACES|gentd26|hazard-both",
    "an NVIDIA GPU": r"make gpu",
    "a genuine OpenWhisk": r"OW_APIHOST=https",
    CONTAINERS: r"backend|make real|tyche platform|tyche profile (measure|memory|calibrate)",
    r"(\d+|a few|several) (minutes|hours)": r"make |tyche (reproduce|train|leaderboard)|--backend",
    "the agent trained above": r"runs/\S+",
}
"""What a block may need, and what has to be in it then."""

RUN_ELSEWHERE = {
    "docs/bring-your-own.md": ROOT / "tests" / "test_bring_your_own.py",
    "docs/traces.md": ROOT / "tests" / "test_traces_page.py",
}
"""Pages that a test of their own follows from beginning to end."""

COMMANDS = ("tyche", "make", "python", "pip", "export")


SHORT = {"run", "test", "test-slow", "lint", "docs", "clean"}
"""Targets that need nothing more, and which ``.ci/run`` or a test of their own runs."""


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of code on a page: its language, and what the line above says that it needs."""

    language: str
    text: str
    needs: tuple[str, ...]

    @property
    def commands(self) -> list[list[str]]:
        """The words of each line of a shell block, without comments."""
        if self.language not in ("bash", "sh"):
            return []
        return [words for line in self.text.splitlines() if (words := shlex.split(line, comments=True))]


def blocks_of(page: Path) -> list[Block]:
    """The page's blocks in order: fenced ones, and commands that are indented by four spaces."""
    text = page.read_text(encoding="utf-8")
    found = []
    indented = rf"^(?: {{4}}(?:{'|'.join(COMMANDS)}) .*\n)+"
    for match in re.finditer(rf"^```(?P<language>\S*).*\n(?P<fenced>(?s:.*?))^```$|{indented}", text, re.MULTILINE):
        above = text[: match.start()].rstrip().rpartition("\n")[2]
        said = re.fullmatch(r"\*Needs (.+)\.\*", above)
        needs = tuple(re.split(r", | and ", said[1])) if said else ()
        if match["fenced"] is None:
            found.append(Block("bash", re.sub(r"^ {4}", "", match[0], flags=re.MULTILINE), needs))
        else:
            found.append(Block(match["language"], match["fenced"], needs))
    return found


CODE = [(page, block) for page in PAGES for block in blocks_of(page)]
CHECKED_HERE = [page for page in PAGES if of_page(page) not in RUN_ELSEWHERE]
RUNNABLE = [
    page
    for page in CHECKED_HERE
    if any(not block.needs and (block.language == "python" or block.commands) for block in blocks_of(page))
]


def follow(page: Path, folder: Path, provided: tuple[str, ...]) -> None:
    """Do what a page says, from top to bottom in an empty folder, as far as it needs no more than is provided."""
    for name in ("docs", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    names: dict[str, object] = {"__name__": page.stem}
    for block in blocks_of(page):
        if not set(block.needs) <= set(provided):
            continue
        if block.language == "python":
            exec(compile(block.text, of_page(page), "exec"), names)
        for words in block.commands:
            obey(words)


def obey(words: list[str]) -> None:
    """Run one command line; ``make`` and ``pip`` are run by ``.ci/run``, on a clone and on the built wheel."""
    program, arguments = words[0], words[1:]
    assert program in COMMANDS, f"{program}: no program that pages may show in a block of shell commands"
    if program == "tyche":
        # as the page says, but on one core and with a report
        alone = ["--jobs", "1"] if arguments[0] in ("evaluate", "reproduce") and "--jobs" not in arguments else []
        assert run([*arguments, *alone]) == 0, shlex.join(words)
    elif program == "python":
        subprocess.run([sys.executable, *arguments], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE, ids=of_page)
def test_what_a_page_shows_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TYCHE_TRACES", raising=False)
    monkeypatch.chdir(tmp_path)
    follow(page, tmp_path, provided=())


@pytest.mark.parametrize(
    ("page", "block"),
    [pytest.param(*each, id=f"{of_page(each[0])}-{n}") for n, each in enumerate(CODE) if each[1].needs],
)
def test_what_is_said_to_need_more_does(page: Path, block: Block) -> None:
    for need in block.needs:
        reasons = [inside for known, inside in NEEDS.items() if re.fullmatch(known, need)]
        assert reasons, f"{of_page(page)}: 'Needs {need}': there are {', '.join(NEEDS)}"
        assert re.search(reasons[0], block.text), f"{of_page(page)}: why should this need {need}?\n{block.text}"


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_no_command_hides_in_a_block_that_is_no_shell_block(page: Path) -> None:
    for block in blocks_of(page):
        if not block.commands:
            hidden = re.findall(r"^(?:(?:tyche|make|pip) |python -m ).*$", block.text, re.MULTILINE)
            assert not hidden, f"{of_page(page)}: put this into a block ```bash: {hidden[0]}"


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_what_takes_long_says_so(page: Path) -> None:
    for block in blocks_of(page):
        for program, *arguments in block.commands:
            if program == "make" and not block.needs:
                long = {each for each in arguments if "=" not in each} - SHORT
                assert not long, f"{of_page(page)}: say above it what make {', '.join(long)} needs"


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_modules_that_commands_run_exist(page: Path) -> None:
    for block in blocks_of(page):
        for words in block.commands:
            if words[:2] == ["python", "-m"]:
                assert importlib.util.find_spec(words[2]), f"{of_page(page)}: there is no module {words[2]}"


def test_pages_that_are_run_elsewhere_are() -> None:
    for name, test in RUN_ELSEWHERE.items():
        if (ROOT / name).exists():
            assert Path(name).name in test.read_text(encoding="utf-8"), f"{test.name} does not read {name}"


def test_the_line_above_a_block_is_read(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    marking = "*Needs the trace files and 20 minutes.*"
    page.write_text(f"Text.\n\n{marking}\n\n```bash\nmake train\n```\n\n    tyche policy list\n\nEnd.\n")
    marked, plain = blocks_of(page)
    assert marked == Block("bash", "make train\n", ("the trace files", "20 minutes"))
    assert plain == Block("bash", "tyche policy list\n", ())
