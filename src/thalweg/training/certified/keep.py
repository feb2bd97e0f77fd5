"""What a certified run keeps: its certificate, and a picture in its report."""

from collections.abc import Callable

from thalweg.certificates.certificate.ladder import ladder_section
from thalweg.report.page import write_report
from thalweg.training.certified.certify import Certified
from thalweg.training.folder.run import CERTIFICATE, REPORT, Run
from thalweg.training.session.finish import make_report

Say = Callable[[str], None]


def keep(run: Run, certified: Certified, *, report: bool, say: Say) -> None:
    """Write the certificate, and the report with its picture.

    Args:
        run: the run.
        certified: what `certify_run` returned.
        report: draw the report once more, with the picture of the bounds as the first of its results.
        say: takes sentences about what is being done.
    """
    certified.interval.save(run.folder / CERTIFICATE)
    if report:
        say("Redrawing the report.")
        section = ladder_section(certified.interval)
        page = make_report(run, certified.task, certified.prepared, (run.model, run.head), run.result, [section])
        write_report(run.folder / REPORT, page)
