"""How the site reads docstrings: a section `Example:` is what griffe knows as `Examples:`, a Python session."""

import re

import griffe


class Sections(griffe.Extension):
    """Give docstrings the section names of griffe."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Rename the sections of one object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
