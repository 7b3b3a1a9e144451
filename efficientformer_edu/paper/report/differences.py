"""The nine differences between the paper and the released code, with checks that this package follows the code.

Each check uses the sentence in `paper`, so the sentence and the code cannot change independently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from efficientformer_edu import paper
from efficientformer_edu.audit import count, explain
from efficientformer_edu.audit.published import Networks
from efficientformer_edu.data.images import RULES, CropRule
from efficientformer_edu.paper import Difference
from efficientformer_edu.paper.report.design import check, printed
from efficientformer_edu.paper.report.rows import Row, Verdict, blocks

PART = "Where the paper and the released code differ"
MISMATCH = "This package differs from the documented behaviour of the code."


class Answer(NamedTuple):
    """The chapter on a difference, the check of this package, and the expression that shows it."""

    chapter: int
    check: Callable[[Difference, Networks], Verdict]
    command: str = ""


def rows(networks: Networks) -> Iterator[Row]:
    """Yield a row for each of the nine differences."""
    for difference in paper.differences():
        answer = ANSWERS[difference.number]
        verdict = answer.check(difference, networks)
        yield Row(
            PART,
            f"difference {difference.number}",
            difference.topic,
            difference,
            answer.chapter,
            verdict,
            answer.command,
        )


def follows(value: str, matches: bool, why: str = "") -> Verdict:
    """Return the verdict of a check: whether our value is the released code's."""
    return Verdict("follows the code" if matches else "disagrees", value, "computed", why if matches else MISMATCH)


def _token_mixer(difference: Difference, networks: Networks) -> Verdict:
    return check("mb4d")


def _scale(difference: Difference, networks: Networks) -> Verdict:
    verdict, config = check("mhsa"), networks["l1"]
    scales = [f"{dim**-0.5:.3f}" for dim in (config.embed_dims[3], config.key_dim)]
    quoted = all(scale in difference.consequence.text for scale in scales) if difference.consequence else False
    return follows(" becomes ".join(scales), quoted and verdict.status == "follows the code", verdict.result)


def _stem_activation(difference: Difference, networks: Networks) -> Verdict:
    acts = {config.stem_act for config in networks.values()}
    return follows(", ".join(sorted(acts)), acts == {difference.code.text.lower()})


def _stages_with_mb3d(difference: Difference, networks: Networks) -> Verdict:
    stages = {stage for config in networks.values() for stage, vit in enumerate(config.vits, start=1) if vit}
    built = f"stage {', '.join(map(str, sorted(stages)))} alone"
    return follows(built, built in difference.code.text.lower())


def _table_6(difference: Difference, networks: Networks) -> Verdict:
    network = next(
        n
        for n in paper.architectures()
        if n.printed and difference.topic == f"stage {n.printed.stage} of {n.preset.upper()}"
    )
    assert network.printed
    config, stage = networks[network.preset], network.printed.stage - 1
    depth, mb3d = config.depths[stage], config.vits[stage]
    built = blocks(depth - mb3d, mb3d) if mb3d else f"{depth} blocks"
    verdict = printed(network.printed, config)
    return verdict if difference.code.text == built else Verdict("disagrees", verdict.result, "computed", MISMATCH)


def _parameters(difference: Difference, networks: Networks) -> Verdict:
    costs = {preset: count(config) for preset, config in networks.items()}
    by_rule = {preset: explain("toolbox", cost.config, quantity="params").total for preset, cost in costs.items()}
    in_millions = " / ".join(f"{cost.params / 1e6:.2f}" for cost in costs.values())
    explained = all(paper.table1()[preset, "params"].stands_for(by_rule[preset] / 1e6) for preset in costs)
    own, released = _listed(cost.params for cost in costs.values()), _listed(by_rule.values())
    return follows(f"{own}; by the rule of toolbox.py {released}", explained and in_millions in difference.code.text)


def _listed(numbers: Iterable[int]) -> str:
    return " / ".join(f"{number:,}" for number in numbers)


def _checkpoint(difference: Difference, networks: Networks) -> Verdict:
    return Verdict("not reproducible here", why="Needs the checkpoint and ImageNet-1K's validation images.")


def _crop(difference: Difference, networks: Networks) -> Verdict:
    crops = {name: _describe_crop(name, RULES[name]) for name in ("official", "timm", "mmpretrain", "hf")}
    return follows("; ".join(crops.values()), all(crop in difference.code.text for crop in crops.values()))


def _describe_crop(name: str, rule: CropRule) -> str:
    """Describe a crop as in the text of the difference."""
    whose = {"official": "the authors' evaluation", "hf": "Hugging Face"}.get(name, name)
    if rule.squash:
        return f"squashed to {rule.size} x {rule.size} in {whose}"
    if name == "mmpretrain":
        return f"{rule.size / rule.crop} to {rule.size} pixels in {whose}"
    return f"{float(rule.crop):g} in {whose}"


ANSWERS = {
    1: Answer(2, _token_mixer, 'report.check("mb4d")'),
    2: Answer(2, _scale, 'report.check("mhsa")'),
    3: Answer(2, _stem_activation, 'get_config("l1").stem_act'),
    4: Answer(3, _stages_with_mb3d, "[get_config(name).vits for name in ef.list_models()]"),
    5: Answer(3, _table_6, 'get_config("l3").vits'),
    6: Answer(3, _table_6, 'get_config("l7").depths'),
    7: Answer(4, _parameters, "[ef.count(name).params for name in ef.list_models()]"),
    8: Answer(10, _checkpoint),
    9: Answer(10, _crop, "weights.RULES"),
}
