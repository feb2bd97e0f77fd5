"""Print the README's command that follows the marker `<!-- command: NAME -->`, so that CI runs what people read."""

import re
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def command(name: str) -> str:
    """Return the fenced command after the marker."""
    found = re.search(rf"<!-- command: {name} -->\s*```(?:sh|bash)\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    if found is None:
        raise SystemExit(f"README.md has no command marked {name!r}.")
    return found[1].strip()


if __name__ == "__main__":
    print(command(sys.argv[1]))
