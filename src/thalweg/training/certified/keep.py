"""What a certified run keeps: its certificate, and a picture in its report."""

from collections.abc import Callable

from thalweg.certificates.certificate.ladder import ladder_section
from thalweg.report.page import write_report
from thalweg.training.certified.certify import Certified
from thalweg.training.folder.run import CERTIFICATE, REPORT, Run
from thalweg.training.session.finish import make_report
from thalweg.training.session.session import Session
from thalweg.training.steps.device import choose_device

Say = Callable[[str], None]


def keep(run: Run, certified: Certified, *, report: bool, say: Say) -> None:
    """Write the certificate, and the report with its picture.

    Args:
        run: the run.
        certified: what `certify_run` returned.
        report: draw the report anew.
        say: takes sentences about what is being done.
    """
    certified.interval.save(run.folder / CERTIFICATE)
    if report:
        say("Drawing the report anew.")
        draw(run, certified)


def draw(run: Run, certified: Certified) -> None:
    """Write the run's report once more, with the picture of the bounds as the first of its results."""
    session = Session(run, certified.task, certified.prepared, choose_device("cpu"), fast=False)
    session.model.load_state_dict(run.model.state_dict())
    session.head.load_state_dict(run.head.state_dict())
    write_report(run.folder / REPORT, make_report(session, run.result, [ladder_section(certified.interval)]))
