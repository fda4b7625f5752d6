"""What an action is made of: a kind that the embedded platform knows, a managed Python kind, or an image.

Whatever it is, the action server in it is told at ``/init`` which functions there are, so that two of them may have the
same profile.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from real_backend.client import ActionSpec, Client
from real_backend.images.action_zip import encoded_zip
from real_backend.platform.kinds import WORKER
from real_backend.worker.messages import Settings, WorldFunction
from tyche_env.errors import UserError
from tyche_env.world import World

VARIABLE = "TYCHE_DEPLOYMENT"


class Making(BaseModel):
    """What an action is made of.

    Attributes:
        how: embedded: the embedded platform's own kind.  kind: a managed Python kind, with the action server as its
            code.  image: a container image that runs the action server.
        name: of the kind or image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    how: Literal["embedded", "kind", "image"] = "embedded"
    name: str = WORKER

    @classmethod
    def parse(cls, text: str, where: str = VARIABLE) -> Self:
        """Read ``embedded``, ``kind:NAME`` or ``image:NAME``.

        Args:
            text: what was said.
            where: the variable or option that said it.

        Raises:
            UserError: it is none of these.
        """
        how, _, name = text.partition(":")
        if text == "embedded":
            return cls()
        if how == "kind" and name:
            return cls(how="kind", name=name)
        if how == "image" and name:
            return cls(how="image", name=name)
        raise UserError(f"{where}: there are embedded, kind:KIND (kind:python:3.11) and image:NAME, got {text!r}")

    def __str__(self) -> str:
        return self.how if self.how == "embedded" else f"{self.how}:{self.name}"

    async def require(self, client: Client) -> None:
        """Refuse the embedded platform's own kind where the platform does not list it; others it refuses itself.

        Raises:
            UserError: it has no such kind; names those that it has, and the variable.
        """
        if self.how != "embedded":
            return
        kinds = await client.kinds()
        if kinds and self.name not in kinds:
            python = next((kind for kind in kinds if kind.startswith("python")), "python:3.11")
            raise UserError(
                f"{VARIABLE}: {self} needs the kind {self.name}, and the platform has only {', '.join(kinds)}; "
                f"say kind:{python}, or image:NAME of an image that runs the action server"
            )

    def spec(self, settings: Settings, functions: str, **about: Any) -> ActionSpec:
        """An action of this make.

        Args:
            settings: what its action server is told at ``/init``.
            functions: module or file that declares the functions; images and the embedded platform have their own.
            about: further fields of the ``ActionSpec``.

        Raises:
            UserError: the functions cannot be sent along.
        """
        if self.how == "kind":
            try:
                code = encoded_zip(settings, functions)
            except (OSError, ValueError) as error:
                raise UserError(f"{VARIABLE}: {self}: {error}") from error
            return ActionSpec(kind=self.name, code=code, binary=True, **about)
        code = json.dumps({key: value for key, value in asdict(settings).items() if value not in (None, {})})
        if self.how == "image":
            return ActionSpec(image=self.name, code=code, **about)
        return ActionSpec(kind=self.name, code=code, **about)


def names_of(world: World) -> tuple[str, ...]:
    """What the action server calls the functions of a world: (F,), no two alike."""
    return tuple(f"{f}-{profile}" for f, profile in enumerate(world.profiles))


def functions_of(world: World) -> Mapping[str, WorldFunction]:
    """The functions of a world as the action server is told of them."""
    table = world.functions
    sizes = zip(table.hold_mb.tolist(), table.peak_mb.tolist(), table.gpu_mb.tolist(), strict=True)
    return {
        name: WorldFunction(profile, *each)
        for name, profile, each in zip(names_of(world), world.profiles, sizes, strict=True)
    }
