"""Code that somebody else may have put among the compiled kernels does not run: each way is tried as an attack."""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pickle import UnpicklingError

import pytest

from tyche_env.control import compiled
from tyche_env.errors import UserError
from tyche_env.kernel_place import COMPLETE, doubt, expected_place, place_of, say

STRANGER = 54_321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")

KERNEL = """
from tyche_env.control.compiled import outer

@outer
def kernel(x):
    return x + 1
"""


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.mark,)


@dataclass
class Done:
    """What became of a run: the kernel's answer, where kernels were kept, and what was said."""

    answer: int
    folder: Path | None
    said: str


@dataclass
class Scene:
    """A module with one kernel, which is compiled or loaded anew by each run, as a new process would do it."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def mark(self) -> Path:
        """What unpickling a planted file leaves."""
        return self.folder / "attacked"

    def run(self, **environment: str) -> Done:
        """Call the kernel; by default it is to be kept in ``cache``."""
        forget()
        for name in ("TYCHE_CACHE_DIR", "XDG_CACHE_HOME"):
            self.monkeypatch.delenv(name, raising=False)
        for name, value in (environment or {"TYCHE_CACHE_DIR": str(self.cache)}).items():
            self.monkeypatch.setenv(name, value)
        source = self.folder / "kernel_module.py"
        source.write_text(KERNEL)
        spec = spec_from_file_location("kernel_module", source)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return Done(module.kernel(41), compiled.kernel_place().folder, self.capsys.readouterr().err)

    def refused(self, **environment: str) -> str:
        """Run, and return the refusal."""
        with pytest.raises(UserError) as caught:
            self.run(**environment)
        assert not self.mark.exists()
        return str(caught.value)

    def files(self, root: Path) -> list[Path]:
        return sorted(root.rglob("*.nb?"))

    def plant(self, root: Path) -> Path:
        """Compile the kernel into a folder, and put a pickle in the place of its index."""
        done = self.run(TYCHE_CACHE_DIR=str(root))
        assert done.folder is not None
        assert done.folder.parent == root
        (index,) = root.rglob("*.nbi")
        index.write_bytes(pickle.dumps(Planted(self.mark)))
        assert not self.mark.exists()
        return index

    def assert_works_unharmed(self, done: Done) -> None:
        assert done.answer == 42
        assert not self.mark.exists()


def forget() -> None:
    """What a new process would not know."""
    compiled.kernel_place.cache_clear()
    say.cache_clear()


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Scene]:
    monkeypatch.setattr("tempfile.tempdir", None)
    yield Scene(tmp_path, monkeypatch, capsys)
    forget()


def test_the_attack_works_where_the_folder_is_trusted(scene: Scene) -> None:
    """So the other tests would notice a pickle that is read."""
    scene.plant(scene.cache)
    with suppress(TypeError, ValueError, AttributeError, UnpicklingError, EOFError):  # it is no index of numba's
        scene.run()
    assert scene.mark.exists()


def test_what_is_kept_is_used_again_and_nobody_else_can_write_it_whatever_the_umask(scene: Scene) -> None:
    umask = os.umask(0)
    try:
        first = scene.run()
        kept = scene.files(scene.cache)
        assert len(kept) == 2
        times = [path.stat().st_mtime_ns for path in kept]
        for path in (scene.cache, *scene.cache.rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
        assert scene.run() == first
        assert first.said == ""
        assert [path.stat().st_mtime_ns for path in scene.files(scene.cache)] == times
    finally:
        os.umask(umask)


@pytest.mark.parametrize("variable", ["TYCHE_CACHE_DIR", "XDG_CACHE_HOME"])
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_named_folder_in_which_others_can_write_is_refused(scene: Scene, variable: str, mode: int) -> None:
    root = scene.cache if variable == "TYCHE_CACHE_DIR" else scene.cache / "tyche-env"
    scene.plant(root)
    root.chmod(mode)
    said = scene.refused(**{variable: str(scene.cache)})
    assert said.startswith(f"{variable}: kernels are not kept in {root}, since {root} can be written by others ")
    assert f"(mode {mode:04o})" in said


def test_a_command_refuses_it_in_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    code = "from tyche_env.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "simulate", "--scenario", "small"],
        env=os.environ | {"TYCHE_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("tyche: TYCHE_CACHE_DIR: kernels are not kept in ")
    assert done.stderr.count("\n") == 1


def test_so_is_one_below_a_folder_in_which_others_can_write(scene: Scene) -> None:
    scene.plant(scene.folder / "above" / "cache")
    (scene.folder / "above").chmod(0o777)
    said = scene.refused(TYCHE_CACHE_DIR=str(scene.folder / "above" / "cache"))
    assert f"since {scene.folder / 'above'} can be written by others" in said


def test_so_is_one_reached_by_a_link_through_such_a_folder(scene: Scene) -> None:
    scene.plant(scene.folder / "open" / "cache")
    (scene.folder / "link").symlink_to("open/cache")
    (scene.folder / "open").chmod(0o777)
    said = scene.refused(TYCHE_CACHE_DIR=str(scene.folder / "link"))
    assert f"since {scene.folder / 'open'} can be written by others" in said


@as_root
def test_so_is_one_that_belongs_to_somebody_else_or_is_reached_by_a_link_of_theirs(scene: Scene) -> None:
    scene.plant(scene.cache)
    (scene.folder / "link").symlink_to(scene.cache)
    os.chown(scene.folder / "link", STRANGER, STRANGER, follow_symlinks=False)
    said = scene.refused(TYCHE_CACHE_DIR=str(scene.folder / "link"))
    assert f"since {scene.folder / 'link'} belongs to another user (number {STRANGER})" in said
    os.chown(scene.cache, STRANGER, STRANGER)
    assert f"since {scene.cache} belongs to another user (number {STRANGER})" in scene.refused()


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda index: index.chmod(0o620), id="group"),
        pytest.param(lambda index: index.chmod(0o602), id="world"),
        pytest.param(lambda index: os.chown(index, STRANGER, STRANGER), id="stranger", marks=as_root),
    ],
)
@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_a_file_that_somebody_else_may_have_written_is_compiled_anew_and_replaced(
    scene: Scene, spoil: Callable[[Path], None], suffix: str
) -> None:
    if suffix == ".nbi":
        planted = scene.plant(scene.cache)
    else:
        scene.run()
        (planted,) = scene.cache.rglob("*.nbc")
        planted.write_bytes(pickle.dumps(Planted(scene.mark)))
    spoil(planted)
    done = scene.run()
    scene.assert_works_unharmed(done)
    assert done.said.startswith(f"tyche-env: a compiled kernel is not used, since {planted} ")
    assert done.said.endswith(": it is compiled anew\n")
    assert done.said.count("\n") == 1
    again = scene.run()
    scene.assert_works_unharmed(again)
    assert again.said == ""


def test_a_folder_within_that_others_can_write_is_neither_read_nor_written(scene: Scene) -> None:
    index = scene.plant(scene.cache)
    index.parent.chmod(0o777)
    before = index.read_bytes()
    done = scene.run()
    scene.assert_works_unharmed(done)
    assert f"kernels cannot be kept in {index.parent.parent}" in done.said
    assert "each process compiles them anew, which takes about a minute" in done.said
    assert index.read_bytes() == before


class TestBesideOthers:
    """Where a home cannot be written, kernels go to the temporary folder, where everybody may have been first."""

    @pytest.fixture
    def temporary(self, tmp_path: Path) -> Path:
        folder = tmp_path / "tmp"
        folder.mkdir()
        folder.chmod(0o1777)
        return folder

    def run(self, scene: Scene, temporary: Path) -> Done:
        home = scene.folder / "home"  # a file: nobody, not even root, can make a folder in it
        home.touch()
        scene.monkeypatch.setattr("tempfile.tempdir", None)
        return scene.run(HOME=str(home), TMPDIR=str(temporary))

    def own(self, temporary: Path) -> Path:
        return temporary / f"tyche-env-{os.geteuid()}"

    def test_a_folder_is_made_for_the_user_alone_and_used_again(self, scene: Scene, temporary: Path) -> None:
        done = self.run(scene, temporary)
        scene.assert_works_unharmed(done)
        assert done.folder is not None
        assert done.folder.parent == self.own(temporary)
        assert stat.S_IMODE(self.own(temporary).stat().st_mode) == 0o700
        assert len(scene.files(temporary)) == 2
        times = [path.stat().st_mtime_ns for path in scene.files(temporary)]
        assert self.run(scene, temporary) == done
        assert [path.stat().st_mtime_ns for path in scene.files(temporary)] == times

    @pytest.mark.parametrize(
        ("plant", "why"),
        [
            pytest.param(lambda own: own.chmod(0o777), "can be written by others (mode 0777)", id="open"),
            pytest.param(lambda own: own.chmod(0o755), "is open to others (mode 0755)", id="readable"),
            pytest.param(
                lambda own: (own.rename(own.with_name("other")), own.symlink_to("other")),
                "is no folder",
                id="link",
            ),
            pytest.param(
                lambda own: os.chown(own, STRANGER, STRANGER),
                f"belongs to another user (number {STRANGER})",
                id="stranger",
                marks=as_root,
            ),
        ],
    )
    def test_one_that_was_there_before_is_not_used(
        self, scene: Scene, temporary: Path, plant: Callable[[Path], object], why: str
    ) -> None:
        index = scene.plant(self.own(temporary))
        before = index.read_bytes()
        plant(self.own(temporary))
        done = self.run(scene, temporary)
        scene.assert_works_unharmed(done)
        assert done.folder is None
        assert f"{self.own(temporary)} {why}" in compiled.kernel_place().why
        (index,) = temporary.rglob("*.nbi")
        assert index.read_bytes() == before

    def test_what_keeps_nothing_says_so_and_what_it_costs(self, temporary: Path, tmp_path: Path) -> None:
        """Compiling everything takes too long here: what is said before it."""
        (tmp_path / "home").touch()
        self.own(temporary).mkdir(mode=0o700)
        self.own(temporary).chmod(0o777)
        code = (
            "from tyche_env.simulator import loading\n"
            "loading._compile = lambda: print('compiled')\n"
            "loading.warm_up(); loading.warm_up()\n"
        )
        others = {k: v for k, v in os.environ.items() if k not in ("TYCHE_CACHE_DIR", "XDG_CACHE_HOME")}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=others | {"HOME": str(tmp_path / "home"), "TMPDIR": str(temporary)},
            capture_output=True,
            text=True,
        )
        assert done.stdout == "compiled\n", done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith("tyche-env: compiling the kernels and keeping them nowhere, since ")
        assert f"{tmp_path / 'home'}" in line
        assert f"{self.own(temporary)} can be written by others (mode 0777)" in line
        assert line.endswith(": each process compiles them anew, which takes about a minute")


class TestPlace:
    @pytest.fixture(autouse=True)
    def _named(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setenv("TYCHE_CACHE_DIR", str(tmp_path / "named"))
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))

    def test_looking_makes_nothing(self, tmp_path: Path) -> None:
        assert expected_place().folder == tmp_path / "named"
        assert list(tmp_path.iterdir()) == []
        assert place_of("v").folder == tmp_path / "named" / "v"
        assert expected_place().folder == tmp_path / "named"

    def test_a_relative_folder_stays_where_it_was_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("TYCHE_CACHE_DIR", "named")
        assert place_of("v").folder == tmp_path / "named" / "v"

    def test_an_empty_variable_names_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TYCHE_CACHE_DIR", "")
        monkeypatch.setenv("XDG_CACHE_HOME", "")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert expected_place().folder == tmp_path / ".cache" / "tyche-env"

    def test_a_folder_that_may_only_be_read_is_of_use_once_it_is_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = place_of("v").folder
        assert folder is not None
        monkeypatch.setattr("tyche_env.kernel_place.writable", lambda path: path != folder)
        elsewhere = place_of("v")
        assert elsewhere.folder != folder
        assert elsewhere.why == f"{folder} cannot be written"
        (folder / COMPLETE).touch()
        assert place_of("v").folder == folder

    def test_looking_refuses_what_is_open_to_others(self, tmp_path: Path) -> None:
        (tmp_path / "named").mkdir()
        (tmp_path / "named").chmod(0o777)
        with pytest.raises(UserError, match=r"TYCHE_CACHE_DIR: .*mode 0777.*chmod go-w"):
            expected_place()


def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert "too many links" in doubt(tmp_path / "a" / "c")


def test_what_does_not_exist_is_judged_by_what_is_above_it(tmp_path: Path) -> None:
    assert doubt(tmp_path / "x" / "y") == ""
    assert doubt(tmp_path / "x" / ".." / "y") == ""
    tmp_path.chmod(0o1777)
    assert doubt(tmp_path / "x" / "y") == ""
    assert "mode 1777" in doubt(tmp_path)
    tmp_path.chmod(0o777)
    assert "mode 0777" in doubt(tmp_path / "x" / "y")
