"""The list of wrong lines (``mutants.yaml``), read and checked against the sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from tyche_env.control import compiled

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("mutants.yaml")
LIMIT_S = 20.0
"""Processor time within which the test has to fail, if the entry states no other limit."""


class Mutant(BaseModel):
    """A line of the sources, and a wrong one in its place.

    Attributes:
        name: short, told apart from all others; its first word is the area.
        file: the source, from the root of the repository.
        old: text that the source holds exactly once.
        new: what takes its place.
        breaks: what is wrong then, in a few words.
        test: the file of tests that has to notice, by its quick tests alone.
        limit_s: seconds of processor time within which they do; more than :data:`LIMIT_S` where kernels are compiled.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    file: str
    old: str
    new: str
    breaks: str
    test: str
    limit_s: float = LIMIT_S

    @property
    def compiled(self) -> bool:
        """Whether its file is one that kernels are compiled from: those then are compiled anew."""
        package = Path("tyche_env")
        return any(Path(self.file).match(str(package / pattern)) for pattern in compiled._SOURCES)

    def apply(self, root: Path) -> str:
        """The source with the wrong line.

        Raises:
            ValueError: the source does not hold the old text exactly once, or the new one is no other.
        """
        text = (root / self.file).read_text(encoding="utf-8")
        found = text.count(self.old)
        if found != 1:
            raise ValueError(f"{self.name}: {self.file} holds the old text {found} times, expected once")
        if self.old == self.new:
            raise ValueError(f"{self.name}: the new text is the old one")
        return text.replace(self.old, self.new)


def read_mutants(path: Path = LIST) -> list[Mutant]:
    """All entries in their order.

    Raises:
        ValueError: two have one name.
    """
    content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    mutants = TypeAdapter(list[Mutant]).validate_python(content)
    names = [mutant.name for mutant in mutants]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path.name}: {', '.join(twice)} is there twice")
    return mutants
