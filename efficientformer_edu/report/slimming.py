"""Section 4.2: candidates and importance of a MetaPath, and the three actions, compared with our `slimming` package.

The steps of Algorithm 1 are answered by `slimmed`, from the records in `results/`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial

import torch

from efficientformer_edu import paper
from efficientformer_edu.report.equations import CHECKS as OF_SECTION_4_1
from efficientformer_edu.report.equations import NARROW, TOLERANCE, Sides, judge
from efficientformer_edu.report.rows import Row, Verdict
from efficientformer_edu.report.waiting import WAITS, remarks
from efficientformer_edu.slimming.metapath import MetaPath, mixture
from efficientformer_edu.slimming.subnet import CANDIDATES, Subnet, actions, importance

PART = "Section 4.2: latency-driven slimming, Eq. 7, Algorithm 1"


def rows() -> Iterator[Row]:
    """Yield a row for every equation, step, action and remark. `slimmed` answers the steps."""
    row = partial(Row, PART, chapter=8)
    for equation in paper.equations():
        if equation.name not in OF_SECTION_4_1:
            where, command = f"Eq. {equation.number}" if equation.number else "§4.2", f'check("{equation.name}")'
            verdict = check(equation.name)
            yield row(where, equation.name, equation, verdict=verdict, command=f"report.slimming.{command}")
    for step in paper.algorithm1():
        yield row("Algorithm 1", f"step {step.number}, {step.name}", step, verdict=WAITS)
    for operation in paper.slimming_actions():
        kind = operation.name.partition(" ")[0]
        command = f'report.slimming.action("{kind}")'
        yield row(
            "Algorithm 1",
            f"action {operation.number}, {operation.name}",
            operation,
            verdict=action(kind),
            command=command,
        )
    for number, (remark, verdict) in enumerate(remarks("slimming"), start=1):
        yield row("§4.2", f"remark {number}", remark, verdict=verdict)


def check(name: str) -> Verdict:
    """Check whether the supernet computes an equation of section 4.2. Raises KeyError for an unknown name."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        return CHECKS[name]()


def allowed() -> Verdict:
    """Compare the candidates in the formula with those of the supernet."""
    expected = dict[int, tuple[str, ...]]()
    for line in paper.equation("supernet").latex.splitlines():
        names, separator, stages = line.partition("& j =")
        if separator:
            kinds = [f"MB{block}" if block else "I" for block in re.findall(r"MB\}\^\{(\dD)\}|\{I\}", names)]
            expected |= {int(stage): tuple(kinds) for stage in re.findall(r"\d", stages)}
    built = {stage: MetaPath(NARROW, stage - 1, 0.0).candidates for stage in range(1, len(CANDIDATES) + 1)}
    description = "; ".join(f"stage {stage}: {', '.join(kinds)}" for stage, kinds in built.items())
    if built == expected:
        return Verdict("exact", description, "computed")
    return Verdict("disagrees", description, "computed", "The supernet has different candidates.")


def mixed() -> Verdict:
    """Compare a MetaPath in training with the sum over its candidates, computed with the same noise."""
    torch.manual_seed(0)
    path = MetaPath(NARROW.replace(layer_scale_init=1), stage=3, drop_path=0.0).double().train()
    path.alpha_in_units.copy_(torch.randn(3) / 30)
    path.tau = 0.5
    x = torch.randn(2, NARROW.embed_dims[3], 3, 4, dtype=torch.float64)
    torch.manual_seed(1)
    output = path(x)
    torch.manual_seed(1)
    epsilon = torch.rand(3, dtype=torch.float64)
    powers = [((a + e) / path.tau).exp() for a, e in zip(path.alpha, epsilon, strict=True)]
    terms = [power * path.candidate(name, x) for power, name in zip(powers, path.candidates, strict=True)]
    printed = torch.stack(terms).sum(0) / sum(powers)
    return judge(Sides(printed, printed, output), "")


def weighed(candidates: int) -> Verdict:
    """Compare the importance of a MetaPath with the ratio of α, as printed, and the ratio of the mixture weights."""
    torch.manual_seed(0)
    alpha = torch.randn(candidates, dtype=torch.float64)
    computed = importance(mixture(alpha, 0.0, 1.0).tolist())
    printed, weights = (float(values[:-1].sum() / values[-1]) for values in (alpha, alpha.exp()))
    if abs(computed - printed) <= TOLERANCE * abs(printed):
        return Verdict("exact", f"equal to the formula, to {TOLERANCE:g}", "computed")
    if abs(computed - weights) <= TOLERANCE * weights:
        return Verdict("disagrees", "the ratio of the weights e^α", "computed", OF_WEIGHTS)
    return Verdict("disagrees", "a different number", "computed", "The module computes something else.")


OF_WEIGHTS = (
    "Adding a constant to all α of a MetaPath changes neither the mixture nor the ratio of its weights. It would "
    "change a ratio of α, which can also be negative."
)
CHECKS: dict[str, Callable[[], Verdict]] = {
    "supernet": allowed,
    "gumbel": mixed,
    "importance_early": partial(weighed, 2),
    "importance_late": partial(weighed, 3),
}
START = Subnet((32,) * 4, (("MB4D",) * 2, ("MB4D",) * 2, ("MB3D",) * 2, ("MB3D",) * 2))
WORTH = ((4.0, 4.0), (2.0, 4.0), (9.0, 1.0), (6.0, 7.0))
AFTER = {
    "depth": Subnet(START.embed_dims, (*START.choices[:2], ("MB3D", "I"), START.choices[3])),
    "MB3D": Subnet(START.embed_dims, (*START.choices[:2], ("MB4D", "MB3D"), START.choices[3])),
    "width": Subnet((32, 16, 32, 32), START.choices),
}
"""The result of each action, if MetaPath 2 of stage 3 and stage 2 have the lowest importance."""


def action(kind: str) -> Verdict:
    """Check an action of Algorithm 1 on a small network. Raises KeyError for an unknown kind."""
    expected = AFTER[kind]
    (step,) = (candidate for candidate in actions(START, WORTH, (16,) * 4) if candidate.kind == kind)
    if START.after(step) == expected:
        return Verdict("exact", str(step), "computed")
    return Verdict("disagrees", str(step), "computed", "The action should give a different network.")
