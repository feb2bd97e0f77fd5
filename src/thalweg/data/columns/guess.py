"""Which task a table is for: the strongest sign decides, among the tasks that can use the columns that were named."""

from collections.abc import Iterable, Mapping

from thalweg.data.columns.choice import FORMAT, NO_COLUMN, REST, Kind, Table, TaskColumns, table_of
from thalweg.data.columns.facts import ColumnFacts
from thalweg.data.columns.misfits import described, is_called_answer, of_names
from thalweg.data.columns.scores import is_label_like, is_text_like, label_score, number_score
from thalweg.data.files.base import AbstractSource
from thalweg.data.files.formats.annotated import NUM_LINES, annotation_in
from thalweg.errors import InputError


def guess_task(
    source: AbstractSource,
    tasks: Iterable[TaskColumns],
    named: Mapping[str, str | None] | None = None,
    *,
    decimal: str = "",
) -> tuple[TaskColumns, str]:
    """Guess from the columns what a file is for: the task with the strongest sign, the first of equals.

    Where the user has named columns, it is a task that can use them as what they were named for.

    Args:
        source: the data.
        tasks: the columns of the tasks in question, such as `thalweg.names.all_task_columns()`.
        named: the columns that the user has named, as for `choose_columns`.
        decimal: the decimal mark of the numbers, as for `choose_columns`.

    Returns:
        The task's columns, and a sentence that gives the reason and how to choose another.

    Raises:
        InputError: when the columns fit no task.

    Example:
        >>> from thalweg import names
        >>> from thalweg.data.builtin.catalog import SAMPLES
        >>> guess_task(SAMPLES["numbers"], names.all_task_columns())[0].task
        'translate'
    """
    tasks, table = list(tasks), Table(source, decimal=decimal)
    given = {role: name for role, name in (named or {}).items() if name}
    tables = {task.task: table for task in tasks}
    if given:
        tables = _fitting(source, tasks, given, decimal)
        tasks = [task for task in tasks if task.task in tables]
    signs = [(rule, task) for task in tasks for rule in task.rules]
    for rule, task in sorted(signs, key=lambda sign: -sign[0].score):
        if rule.holds(tables[task.task]):
            facts = _in_question(task, tables[task.task])
            if reason := (of_names(facts) or task.objection(facts)) if rule.score < FORMAT else "":
                raise InputError(f"{source.name}: {reason}")
            if source.left_out and rule.score <= REST and not given:
                raise InputError(
                    f"{source.name}: nothing says what is to be learned from the texts, and {source.left_out[0]!r} is "
                    "left out, since it holds lists of objects; make plain values of it (with jq, for example), or "
                    "choose with --task."
                )
            return task, f"Task {task.task}: {rule.reason}; --task chooses another."
    if given and len(tasks) == 1:
        return tasks[0], f"Task {tasks[0].task}: the columns that were named are for it; --task chooses another."
    reasons = [reason for task in tasks if (reason := task.objection(table.facts))]
    if reasons:
        raise InputError(f"{source.name}: {reasons[0]}")
    raise InputError(
        f"{source.name}: expected a column of texts or of numbers, found none ({described(table.facts)}); choose the "
        "task with --task, and the columns with --text-column and --label-column."
    )


def doubt_about_text(source: AbstractSource) -> str:
    """Return why plain text may be no text to learn word by word, and what decides, as a sentence; else ""."""
    if source.kind != "text":
        return ""
    told = annotation_in(str(row.values[0]) for row in source.head(NUM_LINES))
    if not told:
        return ""
    forms = {"words": "words and their tags as CoNLL, a word a line", "numbers": "the numbers as a table (.csv)"}
    forms["rows"] = "the rows as a table (.csv)"
    form = next((form for word, form in forms.items() if word in told), "labels and texts as a table (.tsv)")
    return (
        f"{source.name}: {told}, which a language model would learn as part of the text; save {form}, or choose --task "
        "language."
    )


def _fitting(
    source: AbstractSource, tasks: Iterable[TaskColumns], given: Mapping[str, str], decimal: str
) -> dict[str, Table]:
    """What the tasks see that can use the columns that were named, by task; an InputError where there is none."""
    tables: dict[str, Table] = {}
    errors: list[InputError] = []
    for task in tasks:
        if {task.options.get(role, role) for role, name in given.items() if name != NO_COLUMN} <= {*task.roles}:
            try:
                tables[task.task] = table_of(source, task, given, decimal)
            except InputError as error:
                errors.append(error)
    if not tables and errors:
        raise errors[0]
    found = {task.task: tables[task.task] for task in tasks if task.task in tables and _fits(task, tables[task.task])}
    if not found:
        named = {one.name: one for table in tables.values() for one in table.named.values()}
        shown = f" ({described(list(named.values()))})" if named else ""
        raise InputError(
            f"{source.name}: no task can use the columns that were named as they were named{shown}; name others, or "
            "choose with --task."
        )
    return found


def _fits(task: TaskColumns, table: Table) -> bool:
    """Whether the columns that the user named hold what the task learns."""
    if table.named_series is not None:
        return all(one.is_number for one in table.facts if one.name in table.named_series)
    return all(_can_be(task.roles[role], one) for role, one in table.named.items() if task.option_of(role) == "label")


def _can_be(kind: Kind, one: ColumnFacts) -> bool:
    match kind:
        case Kind.LABEL:
            return label_score(one) is not None
        case Kind.NUMBER:
            return number_score(one) is not None
        case Kind.TEXT:
            return is_text_like(one) and not is_label_like(one)
        case Kind.TAGS:
            return one.is_list or one.mean_words > 1
    return True


def _in_question(task: TaskColumns, table: Table) -> list[ColumnFacts]:
    """The columns about which there may be doubt: beside those that were named, no others of the same kind."""
    named = [*table.named.values(), *table.named_labels]
    options = {task.option_of(role) for role in table.named} | ({"label"} if table.named_labels else set())
    others = [one for one in table.facts if one not in named]
    if "label" in options:
        others = [one for one in others if is_text_like(one) and not is_label_like(one) and not is_called_answer(one)]
    if "text" in options:
        others = [one for one in others if not is_text_like(one)]
    return sorted([*named, *others], key=lambda one: one.position)
