"""The repository keeps its promises: programs that run, pages that exist, nothing of one machine in any file."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["bin/ridgeline", "bin/test", "bin/benchmark", ".ci/run"])
def test_programs_can_be_run(root: Path, name: str):
    assert os.access(root / name, os.X_OK)
    assert (root / name).read_text().startswith("#!/usr/bin/env bash\n")


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "mkdocs.yml"])
def test_pages_exist(root: Path, name: str):
    assert (root / name).stat().st_size > 0


def test_the_readme_starts_with_the_first_two_commands(root: Path):
    commands = re.findall(r"^(?:\$ )?(bin/\w+)", (root / "README.md").read_text(), re.MULTILINE)
    assert commands[:2] == ["bin/ridgeline", "bin/test"]


def test_the_changelog_has_the_present_version_or_unreleased(root: Path):
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    text = (root / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in text or f"## [{version}]" in text


def test_continuous_integration_runs_the_whole_test_program_and_nothing_else(root: Path):
    lines = (root / ".ci/run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert len(commands) == 1
    assert commands[0].startswith("exec ")
    assert commands[0].endswith('/bin/test" --all')


def test_no_file_names_a_place_on_one_machine(root: Path):
    if not (root / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout: the list of the project's files is unknown")
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=root, check=True, capture_output=True, text=True).stdout.split("\0")
    private = re.compile(r"(?<![\w.~%-])/(?:home|Users|root|work)/[\w.-]+")
    found = {}
    for name in filter(None, names):
        path = root / name
        if path.is_file() and (match := private.search(path.read_text(errors="ignore"))):
            found[name] = match[0]
    assert not found


def test_every_decision_is_listed(root: Path):
    folder = root / "docs/decisions"
    index = (folder / "index.md").read_text()
    assert [path.name for path in sorted(folder.glob("[0-9]*.md")) if f"({path.name})" not in index] == []


def test_the_documentation_builds_without_a_warning(root: Path, tmp_path: Path):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: `pip install 'ridgeline[docs]'` brings it")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    build = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stderr
