"""Every option of answers is a flag of `thalweg predict` with a sentence."""

import dataclasses

from thalweg.cli.asking.flags import HELP, AnswerFlags
from thalweg.names import TASKS, task_spec
from thalweg.tasks.questions import AnswerOptions


def test_every_option_that_some_task_reads_is_a_flag_with_a_sentence():
    read = set().union(*(task_spec(name).answers for name in TASKS))
    assert read == HELP.keys() == {field.name for field in dataclasses.fields(AnswerFlags)}
    assert {field.name for field in dataclasses.fields(AnswerOptions)} - {"places"} <= read
    assert all(said.endswith((".", ".)")) for said in HELP.values())
