"""The frame of a page: templates, both scripts with the hashes that allow them, and the figures as JSON."""

import base64
import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import plotly.offline

from thalweg.errors import InputError
from thalweg.report.panels import Panel
from thalweg.report.text import format_value, script_json, visible
from thalweg.report.theme import DARK, LIGHT
from thalweg.storage.files import make_folder, write_file

_TEMPLATES = Path(__file__).parent / "templates"


def _script(text: str) -> tuple[str, str]:
    """Return a script that can stand in a page and the hash by which the page's policy allows it."""
    text = text.replace("</script", "<\\/script").replace("<!--", "<\\!--").replace("\r\n", "\n").replace("\r", "\n")
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return text, f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


@functools.cache
def _plotly() -> tuple[str, str]:
    """Return plotly's own script, of five million letters, and its hash."""
    return _script(plotly.offline.get_plotlyjs())


@functools.cache
def _template(name: str) -> jinja2.Template:
    """Return a page without its contents; reading it takes longer than filling it in."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if hasattr(value, "__html__") else visible(value),
    )
    environment.filters["value"] = format_value
    return environment.get_template(name)


def _figure_data(panels: Sequence[Panel]) -> str:
    """Return the figures, their views and both themes as JSON for the page's script."""
    drawn = []
    for panel in panels:
        if panel.figure is not None:
            figure = panel.figure.to_plotly_json()
            figure["layout"].pop("template", None)
            figure["views"] = [{"traces": view.traces, "layout": view.layout} for view in panel.views]
            drawn.append(figure)
    return script_json({"themes": {"light": LIGHT, "dark": DARK}, "figures": drawn})


def render_page(template: str, panels: Sequence[Panel], **entries: Any) -> str:
    """Return a page as text, with all styles, scripts and data inside.

    A content security policy forbids every request and every script but the two that belong to the page. All text is
    escaped, in figures too.

    Args:
        template: file name of the page's template.
        panels: every panel of the page, in the order in which they come on it.
        **entries: what the template shows.
    """
    plotly_script, plotly_hash = _plotly()
    page_script, page_hash = _script((_TEMPLATES / "page.js").read_text(encoding="utf-8"))
    has_figures = any(panel.figure is not None for panel in panels)
    return _template(template).render(
        policy_hashes=f"{plotly_hash} {page_hash}" if has_figures else "'none'",
        style=(_TEMPLATES / "style.css").read_text(encoding="utf-8"),
        plotly_script=plotly_script if has_figures else "",
        page_script=page_script,
        figure_data=_figure_data(panels),
        has_figures=has_figures,
        **entries,
    )


def write_page(path: str | os.PathLike[str], page: str) -> None:
    """Write a page as a file; a reader sees the old file or the new one, never half of it.

    Args:
        path: the file; its folder is made where it is missing.
        page: its text.

    Raises:
        InputError: if there is a folder of that name.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file for the page, such as {path / 'report.html'}.")
    is_link = path.is_symlink() and path.parent != Path("/dev")  # in a stranger's folder it may lead anywhere
    if path.exists() and not path.is_file() and not is_link:  # a device or a pipe is written to, and never replaced
        path.write_bytes(page.encode("utf-8", "replace"))
        return
    make_folder(path.parent)
    write_file(path, page.encode("utf-8", "replace"))
