"""Repairs in the words of PyTorch, for trainings that no recipe describes."""

import dataclasses
import re
from typing import Final

from thalweg.diagnosis.finding import Finding

_NUMBER: Final = r"(-?\d[\d.]*(?:e[+-]?\d+)?)(?<!\.)"
# What repairs say in options -> the same in code, in the order in which they are replaced.
_WORDS: Final = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (
            r"--optimizer adamw --clip 1, without --lr, takes the usual rate and schedule\.",
            "Usual are torch.optim.AdamW with lr=1e-3, a rate that falls to zero, and "
            "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).",
        ),
        (r"--optimizer adamw", "torch.optim.AdamW"),
        (rf"Set --lr {_NUMBER}", r"Set lr=\1 of the optimizer"),
        (r" \(--clip, --clip-running, --clip-update\)", " (torch.nn.utils.clip_grad_norm_)"),
        (r" and limit single entries of the update \(--clip-update\)", ""),
        (rf"--clip {_NUMBER}", r"torch.nn.utils.clip_grad_norm_(model.parameters(), \1)"),
        (r" --skip prenorm", " x + layer(norm(x)) instead of layer(x),"),
        (r", (--init default|--activation gelu)", r" \1"),
        (r"--init default", "PyTorch's own initialization"),
        (r"--init orthogonal", "nn.init.orthogonal_"),
        (r" \(--init, --seed\)", ""),
        (r"--activation gelu", "nn.GELU()"),
        (r"--schedule cosine, and --epochs so many times as before", "CosineAnnealingLR, for so many epochs more"),
        (r"--schedule cosine", "torch.optim.lr_scheduler.CosineAnnealingLR"),
        (r"--batch-size full", "all of them in each step"),
        (rf"--batch-size {_NUMBER}", r"batch_size=\1 of the DataLoader,"),
        (rf"--dropout {_NUMBER}", r"nn.Dropout(\1),"),
        (rf"--weight-decay {_NUMBER}", r"weight_decay=\1 of the optimizer"),
        (rf"--l2 {_NUMBER}", r"a factor of \1"),
        (r"--class-weights balanced", "weight= of the loss, one over how often each class comes"),
        (rf"--epochs {_NUMBER}", r"for \1 epochs"),
        (rf"--steps {_NUMBER}", r"for \1 steps"),
        (rf"--patience {_NUMBER}", r"stop after \1 evaluations without a better one,"),
        (rf"--(width|hidden) {_NUMBER}", r"\1 \2,"),
        (r"--warmup 0\.1", "over a tenth of the steps"),
        (r"--scaling standard", "subtract each column's mean and divide by its deviation"),
        (r"--precision float32; bfloat16 for the forward pass alone", "torch.autocast for the forward pass alone"),
        (r"; --normalize-vectors center for word vectors", ""),
        (r"the first of --optimizer-options\.betas", "the first of betas"),
        (r" \(--(columns names those to keep|valid-share)\)", ""),
        (r"Let thalweg split \(without --valid equal texts stay on one side\)", "Split again, equal texts on one side"),
        (r",(\.|$)", r"\1"),
    )
)


def in_pytorch(finding: Finding) -> Finding:
    """Return a finding whose repair names no option of the command line.

    Example:
        >>> from thalweg.diagnosis.finding import Repair, Severity
        >>> repair = Repair("The rate has to be lower. Set --lr 0.003.", {"lr": 0.003})
        >>> in_pytorch(Finding("learning-rate-too-high", Severity.ERROR, "1.", repair)).repair.sentence
        'The rate has to be lower. Set lr=0.003 of the optimizer.'
    """
    sentence = finding.repair.sentence
    for pattern, words in _WORDS:
        sentence = pattern.sub(words, sentence)
    return dataclasses.replace(finding, repair=dataclasses.replace(finding.repair, sentence=sentence))
