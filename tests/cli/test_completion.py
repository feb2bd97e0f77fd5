"""Completion: bash takes the script, and it completes commands and options; no shell needs PyTorch for that."""

import shutil
import subprocess

import pytest

from thalweg.cli.main import run as command_line

COMPLETE = """
source {script}
COMP_WORDS=({words})
COMP_CWORD=$(({number} - 1))
_thalweg
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def script(capsys, tmp_path):
    def call(shell):
        with pytest.raises(SystemExit, match="0"):
            command_line(["completion", shell])
        path = tmp_path / f"thalweg.{shell}"
        path.write_text(capsys.readouterr().out)
        return path

    return call


@pytest.mark.parametrize(
    ("words", "expected"),
    [(("thalweg", "pre"), ["predict"]), (("thalweg", "train", "--optimizer-"), ["--optimizer-options"])],
)
def test_bash_completes_commands_and_options(script, words, expected):
    path = script("bash")
    assert subprocess.run(["bash", "-n", path], capture_output=True).returncode == 0
    code = COMPLETE.format(script=path, words=" ".join(words), number=len(words))
    done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (expected, "")


def test_bash_completes_files_with_spaces_where_nothing_else_is_known(script, tmp_path):
    """As a terminal sees it: what comes after two tabs."""
    pexpect = pytest.importorskip("pexpect")
    (tmp_path / "my reviews.csv").touch()
    path = script("bash")
    shell = pexpect.spawn("bash", ["--norc", "--noprofile"], cwd=str(tmp_path), encoding="utf-8", timeout=10)
    shell.sendline(f"PS1='> '; source {path}; bind 'set enable-bracketed-paste off'")
    for line in (
        "thalweg train my",
        "thalweg train --valid my",
        "thalweg train x --word-vectors my",
        "thalweg verify my",
    ):
        shell.send(f"{line}\t")
        assert shell.expect_exact([r"my\ reviews.csv", pexpect.TIMEOUT]) == 0, line
        shell.sendcontrol("u")
    shell.close(force=True)


def test_zsh_completes_files_where_nothing_else_is_known(script):
    lines = script("zsh").read_text().splitlines()
    for part in ("'1:CSV, TSV", "'*:Further files", "'*--valid[", "'*--word-vectors[", "'*--resume["):
        found = [line for line in lines if line.lstrip().startswith(part)]
        assert found
        assert all(line.count(":_files'") == 1 for line in found)
    assert not any("--no-compile" in line and "_files" in line for line in lines)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script_that_names_every_command(script, shell):
    path = script(shell)
    text = path.read_text()
    assert all(name in text for name in ("train", "predict", "completion", "optimizer"))
    if shutil.which(shell):
        assert subprocess.run([shell, "-n", path], capture_output=True).returncode == 0


def test_another_shell_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        command_line(["completion", "tcsh"])
    assert "There is no shell 'tcsh'; expected one of bash, zsh, fish" in capsys.readouterr().err
