"""`thalweg completion`: the parser's script, and files wherever it knows nothing better."""

import re
from typing import Any, Final

from thalweg import names
from thalweg.cli.output import print_answers

SHELLS: Final = ("bash", "zsh", "fish")


def print_script(app: Any, shell: str) -> int:
    """Print the script for a shell, and return the exit code."""
    names.check(SHELLS, shell, "shell")
    print_answers([with_files(app.generate_completion(shell=shell), shell)])
    return 0


def with_files(script: str, shell: str) -> str:
    """Return a script that completes files, too, where an argument is a file or anything else.

    The parser knows options that are always files, and not a source, which may be a built-in set, or `--valid`. In bash
    names with spaces would come as several.
    """
    if shell == "bash":
        script = script.replace('COMPREPLY=( $(compgen -f -- "${cur}") )', "COMPREPLY=()")
        return script.replace("complete -F _thalweg", "complete -o default -F _thalweg")
    if shell == "zsh":
        return re.sub(
            r"^( +'(?:[0-9*]:|\*--[\w-]+\[.*\]:).*(?<!:_files))'(?= \\$|$)", r"\1:_files'", script, flags=re.M
        )
    return script
