"""From what was seen to findings: every rule is asked, and what follows from another finding is told with it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

from thalweg.diagnosis.catalog import KINDS, Kind, Rank
from thalweg.diagnosis.finding import Finding, Severity
from thalweg.diagnosis.symptoms import correctness, generalization, network, of_data, representations, steps
from thalweg.diagnosis.symptoms.evidence import Evidence

ORDER: Final = {severity: place for place, severity in enumerate(Severity)}
RULES: Final[tuple[Callable[[Evidence], Finding | None], ...]] = (
    correctness.non_finite,
    correctness.loss_driven_up,
    correctness.targets_broadcast,
    correctness.gradients_accumulate,
    correctness.probabilities_as_scores,
    correctness.padding_not_masked,
    correctness.future_leak,
    correctness.dropout_in_evaluation,
    correctness.precision_underflow,
    of_data.not_shuffled,
    of_data.unnormalized_inputs,
    of_data.unnormalized_targets,
    of_data.constant_columns,
    of_data.skewed_columns,
    of_data.conflicting_labels,
    of_data.label_noise,
    of_data.leaking_duplicates,
    of_data.duplicate_examples,
    of_data.validation_too_small,
    network.untrained_parameters,
    network.symmetric_initialization,
    network.initialization_too_small,
    network.initialization_too_large,
    network.exploding_gradient,
    network.vanishing_gradient,
    network.vanishing_in_time,
    network.saturated_activations,
    network.dead_units,
    steps.momentum_too_high,
    steps.late_updates_explode,
    steps.learning_rate_too_high,
    steps.schedule_ended_early,
    steps.clipping_always,
    steps.clipping_never,
    steps.batch_too_small,
    steps.batch_too_large,
    steps.learning_rate_too_low,
    steps.loss_spikes,
    steps.oscillation,
    steps.edge_of_stability,
    steps.plateau_at_saddle,
    generalization.weight_decay_too_strong,
    generalization.dropout_too_strong,
    generalization.over_fitting,
    generalization.capacity_too_small,
    generalization.majority_class,
    of_data.never_predicted,
    representations.embedding_collapse,
    representations.anisotropic_embeddings,
    representations.attention_collapse,
)


def findings_of(facts: Mapping[str, Any], trends: Mapping[str, Any], probes: Mapping[str, Any]) -> list[Finding]:
    """Return the findings, the worst first; what one explains is named in its `also` and not listed by itself."""
    evidence = Evidence(facts, trends, probes)
    return ordered([_weighed(finding, evidence) for rule in RULES if (finding := rule(evidence)) is not None])


def _weighed(finding: Finding, evidence: Evidence) -> Finding:
    """Return a finding about what gradients and activations do as no error where the training has learned anyway."""
    is_less = KINDS[finding.name].rank is Rank.MECHANISM and evidence.has_learned
    if is_less and finding.severity is Severity.ERROR:
        return dataclasses.replace(finding, severity=Severity.WARNING)
    return finding


def ordered(found: list[Finding]) -> list[Finding]:
    """Return findings without those that others explain, the worst first.

    Kinds stand in the catalog with causes before their effects, so that of two that explain each other the earlier one
    is told. What has cost nothing yet, a note, explains nothing.
    """
    by_name = {finding.name: finding for finding in found}
    told: dict[str, list[str]] = {}
    gone: set[str] = set()
    for name, kind in KINDS.items():
        if name in by_name and name not in gone:
            others = () if by_name[name].severity is Severity.NOTE else by_name
            told[name] = [one for one in others if one not in gone and one != name and _follows(one, kind)]
            gone |= set(told[name])
    roots = [dataclasses.replace(by_name[name], also=also) for name, also in told.items() if name not in gone]
    return sorted(roots, key=lambda one: (ORDER[one.severity], -one.strength))


def _follows(name: str, kind: Kind) -> bool:
    """Return whether a finding is told with another one."""
    return name in kind.explains or kind.rank < KINDS[name].rank < Rank.FACT
