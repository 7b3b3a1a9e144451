"""Section 4.2: what a MetaPath may be and what it weighs, and the three actions, beside `efficientformer_edu.slimming`.

The steps of Algorithm 1 wait for what `slimmed` reads from the records in `results/`.
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
    """Every equation, step, action and remark. The steps wait for `slimmed`."""
    row = partial(Row, PART, chapter=8)
    for equation in paper.equations():
        if equation.name not in OF_SECTION_4_1:
            where, command = f"Eq. {equation.number}" if equation.number else "§4.2", f'check("{equation.name}")'
            verdict = check(equation.name)
            yield row(where, equation.name, equation, verdict=verdict, command=f"report.slimming.{command}")
    for step in paper.algorithm1():
        yield row("Algorithm 1", f"step {step.number}, {step.name}", step, verdict=WAITS)
    for one in paper.slimming_actions():
        kind = one.name.partition(" ")[0]
        command = f'report.slimming.action("{kind}")'
        yield row("Algorithm 1", f"action {one.number}, {one.name}", one, verdict=action(kind), command=command)
    for number, (remark, verdict) in enumerate(remarks("slimming"), start=1):
        yield row("§4.2", f"remark {number}", remark, verdict=verdict)


def check(name: str) -> Verdict:
    """Whether the supernet computes an equation of section 4.2. KeyError for another name."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        return CHECKS[name]()


def allowed() -> Verdict:
    """What a MetaPath may be, read from the formula, beside the candidates that the supernet has."""
    wanted = dict[int, tuple[str, ...]]()
    for line in paper.equation("supernet").latex.splitlines():
        names, found, stages = line.partition("& j =")
        if found:
            kinds = [f"MB{block}" if block else "I" for block in re.findall(r"MB\}\^\{(\dD)\}|\{I\}", names)]
            wanted |= {int(stage): tuple(kinds) for stage in re.findall(r"\d", stages)}
    ours = {stage: MetaPath(NARROW, stage - 1, 0.0).candidates for stage in range(1, len(CANDIDATES) + 1)}
    words = "; ".join(f"stage {stage}: {', '.join(kinds)}" for stage, kinds in ours.items())
    if ours == wanted:
        return Verdict("exact", words, "computed")
    return Verdict("disagrees", words, "computed", "The supernet has other candidates.")


def mixed() -> Verdict:
    """The sum over the candidates, written out with the noise that a MetaPath in training has drawn."""
    torch.manual_seed(0)
    path = MetaPath(NARROW.replace(layer_scale_init=1), stage=3, drop_path=0.0).double().train()
    path.alpha_in_units.copy_(torch.randn(3) / 30)
    path.tau = 0.5
    x = torch.randn(2, NARROW.embed_dims[3], 3, 4, dtype=torch.float64)
    torch.manual_seed(1)
    ours = path(x)
    torch.manual_seed(1)
    epsilon = torch.rand(3, dtype=torch.float64)
    powers = [((a + e) / path.tau).exp() for a, e in zip(path.alpha, epsilon, strict=True)]
    terms = [power * path.candidate(name, x) for power, name in zip(powers, path.candidates, strict=True)]
    printed = torch.stack(terms).sum(0) / sum(powers)
    return judge(Sides(printed, printed, ours), "")


def weighed(candidates: int) -> Verdict:
    """The importance of a MetaPath beside the quotient of α, as printed, and that of what they weigh in the mixture."""
    torch.manual_seed(0)
    alpha = torch.randn(candidates, dtype=torch.float64)
    ours = importance(mixture(alpha, 0.0, 1.0).tolist())
    printed, weights = (float(one[:-1].sum() / one[-1]) for one in (alpha, alpha.exp()))
    if abs(ours - printed) <= TOLERANCE * abs(printed):
        return Verdict("exact", f"equal to the formula, to {TOLERANCE:g}", "computed")
    if abs(ours - weights) <= TOLERANCE * weights:
        return Verdict("disagrees", "the quotient of the weights e^α", "computed", OF_WEIGHTS)
    return Verdict("disagrees", "another number", "computed", "The module computes something else.")


OF_WEIGHTS = (
    "A number that is added to all α of a MetaPath changes no mixture, and no quotient of its weights. It would change "
    "a quotient of α, which can also be negative."
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
"""What each action leaves of a network of which MetaPath 2 of stage 3 is worth least, and stage 2 of all stages."""


def action(kind: str) -> Verdict:
    """Whether an action does to a small network what Algorithm 1 says. KeyError for another kind."""
    wanted = AFTER[kind]
    (chosen,) = (one for one in actions(START, WORTH, (16,) * 4) if one.kind == kind)
    if START.after(chosen) == wanted:
        return Verdict("exact", str(chosen), "computed")
    return Verdict("disagrees", str(chosen), "computed", "Another network was to be left.")
