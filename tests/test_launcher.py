"""The launcher on first use and after, with stand-ins for Python and pip, so that nothing is downloaded.

The stand-in keeps a log of its calls, answers as it was told, and makes environments whose Python is itself.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

TOOLS = ["bash", "cat", "chmod", "cksum", "cp", "date", "dirname", "env", "mkdir", "mv", "readlink", "rm", "sleep"]
STAND_IN = """#!/usr/bin/env bash
case "$*" in
*ensurepip*) echo "{version} {modules}" ;;
*flock*) exec "{python}" "$@" ;;
--version) echo "Python {version}" ;;
"-m venv "*)
    echo venv >>"{log}"
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "version = {version}" >"$3/pyvenv.cfg" ;;
"-m pip "*)
    echo pip >>"{log}"
    echo "output of pip"
    eval "$(cat "{pip}")" ;;
*"-m ridgeline"*) printf '<%s>' "$@"; cat; exit 3 ;;
*) exit 1 ;;
esac
"""


@dataclass(frozen=True)
class Checkout:
    """A copy of the launcher, and a PATH on which nothing is but a few tools and the stand-in."""

    root: Path
    tools: Path

    def python(self, answer: str, name: str = "python3") -> None:
        """Put a Python on the path that answers with its version and whether its modules are complete."""
        version, modules = answer.split()
        places = {"python": sys.executable, "log": self.log_file, "pip": self.pip}
        (self.tools / name).write_text(STAND_IN.format(version=version, modules=modules, **places))
        (self.tools / name).chmod(0o755)

    @property
    def log_file(self) -> Path:
        return self.root.parent / "log"

    @property
    def pip(self) -> Path:
        return self.root.parent / "pip"

    @property
    def environment(self) -> Path:
        return self.root / ".venv/run"

    def calls(self) -> list[str]:
        return self.log_file.read_text().split()

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [str(self.root / "bin/ridgeline"), *arguments]
        return subprocess.Popen(command, env={"PATH": str(self.tools), **variables}, text=True, **pipes)

    def run(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **variables)
        output, errors = process.communicate("input", timeout=30)
        return process.returncode, output, errors


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path / "a check out", tmp_path / "tools")
    (made.root / "bin").mkdir(parents=True)
    for name in ("ridgeline", "environment"):
        shutil.copy(root / "bin" / name, made.root / "bin" / name)
    (made.root / "pyproject.toml").write_text("[project]\n")
    made.tools.mkdir()
    for name in TOOLS:
        (made.tools / name).symlink_to(shutil.which(name) or pytest.fail(f"{name} is needed"))
    made.log_file.touch()
    made.pip.touch()
    return made


def one_sentence(errors: str) -> str:
    assert errors.startswith("bin/ridgeline: ")
    assert errors.count("\n") == 1
    return errors


def test_first_use_makes_the_environment_and_later_uses_only_run(checkout: Checkout):
    checkout.python("3.12.4 complete")
    status, output, errors = checkout.run("analyze", "two words", "")
    assert (status, output) == (3, "<-P><-m><ridgeline><analyze><two words><>input")
    assert "output of pip" in errors
    assert checkout.run("again") == (3, "<-P><-m><ridgeline><again>input", "")
    assert checkout.calls() == ["venv", "pip"]


def test_runs_through_a_link_from_any_folder(checkout: Checkout, tmp_path: Path):
    checkout.python("3.12.4 complete")
    link = tmp_path / "link"
    link.symlink_to(checkout.root / "bin/ridgeline")
    run = subprocess.run([link], cwd="/", env={"PATH": str(checkout.tools)}, capture_output=True, text=True, check=False)
    assert run.returncode == 3
    assert checkout.environment.is_dir()


@pytest.mark.parametrize("name", ["python3", "python3.13"])
def test_a_missing_venv_module_is_one_sentence(checkout: Checkout, name: str):
    checkout.python("3.13.1 incomplete", name)
    status, output, errors = checkout.run()
    assert (status, output) == (2, "")
    assert f"apt install {name}-venv" in one_sentence(errors)
    assert not checkout.environment.exists()


def test_an_old_python_is_one_sentence(checkout: Checkout):
    checkout.python("3.9.2 complete")
    status, output, errors = checkout.run()
    assert (status, output) == (2, "")
    assert "Python 3.11 or newer is needed (python3 is 3.9.2)" in one_sentence(errors)


def test_no_python_is_one_sentence(checkout: Checkout):
    status, _, errors = checkout.run()
    assert status == 2
    assert "Python 3.11 or newer is needed" in one_sentence(errors)


def test_a_newer_python_is_found_beside_an_old_one(checkout: Checkout):
    checkout.python("3.10.1 complete")
    checkout.python("3.14.0 complete", "python3.14")
    assert checkout.run()[0] == 3
    assert "version = 3.14.0" in (checkout.environment / "pyvenv.cfg").read_text()


def test_a_python_can_be_named(checkout: Checkout):
    checkout.python("3.12.4 complete")
    checkout.python("3.13.0 complete", "other")
    checkout.run()
    assert checkout.run(RIDGELINE_PYTHON="other")[0] == 3  # made again with the one that is named …
    assert checkout.run(RIDGELINE_PYTHON="other")[0] == 3
    assert checkout.run()[0] == 3  # … which stays until another is named
    assert checkout.calls() == ["venv", "pip"] * 2
    assert checkout.run(RIDGELINE_PYTHON="absent")[0] == 2


def change_project(checkout: Checkout) -> None:
    (checkout.root / "pyproject.toml").write_text("[project]\nname = 'other'\n")


def change_version(checkout: Checkout) -> None:
    (checkout.environment / "pyvenv.cfg").write_text("version = 3.12.5\n")


def upgrade_in_place(checkout: Checkout) -> None:
    os.utime(checkout.environment / "bin/python", (0, 0))


def remove_python(checkout: Checkout) -> None:
    (checkout.environment / "bin/python").unlink()


def remove_stamp(checkout: Checkout) -> None:
    (checkout.environment / "stamp").unlink()


@pytest.mark.parametrize("change", [change_project, change_version, upgrade_in_place, remove_python, remove_stamp])
def test_an_environment_out_of_date_is_made_again(checkout: Checkout, change):
    checkout.python("3.12.4 complete")
    checkout.run()
    (checkout.environment / "left over").touch()
    change(checkout)
    assert checkout.run()[0] == 3
    assert checkout.calls() == ["venv", "pip"] * 2
    assert not (checkout.environment / "left over").exists()
    assert checkout.run()[2] == ""


def test_a_copy_of_the_folder_makes_its_own(checkout: Checkout, tmp_path: Path):
    checkout.python("3.12.4 complete")
    checkout.run()
    copy = Checkout(tmp_path / "copy", checkout.tools)
    shutil.copytree(checkout.root, copy.root, symlinks=True)
    copy.run()
    assert checkout.calls() == ["venv", "pip"] * 2


def test_a_failed_install_is_said_and_tried_again(checkout: Checkout):
    checkout.python("3.12.4 complete")
    checkout.pip.write_text("exit 1")
    status, output, errors = checkout.run()
    assert (status, output) == (1, "")
    assert "installing failed" in errors
    checkout.pip.write_text("")
    assert checkout.run()[0] == 3
    assert checkout.calls() == ["venv", "pip"] * 2


def test_a_killed_set_up_is_made_again(checkout: Checkout):
    checkout.python("3.12.4 complete")
    checkout.pip.write_text("sleep 0.5")
    process = checkout.start()
    while checkout.calls() != ["venv", "pip"]:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not (checkout.environment / "stamp").exists()
    assert checkout.run()[0] == 3
    assert checkout.calls() == ["venv", "pip"] * 2


def test_two_first_uses_at_once_make_one_environment(checkout: Checkout):
    checkout.python("3.12.4 complete")
    checkout.pip.write_text("sleep 0.5")
    processes = [checkout.start() for _ in range(3)]
    results = [(process.communicate("input", timeout=30), process.returncode) for process in processes]
    assert [status for _, status in results] == [3, 3, 3]
    assert sum("waiting" in errors for (_, errors), _ in results) == 2
    assert checkout.calls() == ["venv", "pip"]
