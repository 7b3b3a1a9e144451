"""Explain the result of another counter, step by step from our own count, with no remainder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, get_args

from efficientformer_edu._validation import unknown_name
from efficientformer_edu.audit.ledger import Costs, Form, Operation, count
from efficientformer_edu.audit.rules import AMOUNTS, ANY_ACT, ANY_STAGE, COUNTERS, Code, CounterRule, Quantity, Term
from efficientformer_edu.config import EfficientFormerConfig, Resolution
from efficientformer_edu.utils.tables import Table


class CountStep(NamedTuple):
    """One difference between our count and that of a counter."""

    description: str
    amount: int


@dataclass(frozen=True)
class Explanation:
    """How a counter gets from our count to its own.

    Attributes:
        counter: its name in `COUNTERS`.
        quantity: "macs" or "params".
        code: whose code is counted: "ours", "released" or "huggingface".
        costs: our ledger.
        steps: the differences that are not 0.
    """

    counter: str
    quantity: Quantity
    code: Code
    costs: Costs
    steps: tuple[CountStep, ...]

    @property
    def rule(self) -> CounterRule:
        """The counter's rule."""
        return COUNTERS[self.counter]

    @property
    def start(self) -> int:
        """Our count, from which the steps start."""
        return self.costs.macs if self.quantity == "macs" else self.costs.params

    @property
    def total(self) -> int:
        """The number that the counter prints according to its rule."""
        return self.start + sum(step.amount for step in self.steps)

    def remainder(self, printed: int) -> int:
        """Return the part of a printed number that the steps do not explain; 0 if the rule is right."""
        return printed - self.total

    def table(self) -> Table:
        """Return a table of our count, each step, and the printed number."""
        unit = "parameters" if self.quantity == "params" else "MACs"
        rows = [(f"our {unit}", self.start), *self.steps, (f"{self.counter} prints", self.total)]
        return Table(("step", unit if self.rule.per_mac == 1 else "count"), tuple(rows), total=True)

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        return self.table().to_markdown()

    def _repr_markdown_(self) -> str:
        return self.to_markdown()


def explain(
    counter: str,
    model: str | EfficientFormerConfig,
    resolution: Resolution = 224,
    form: Form = "trained",
    quantity: Quantity = "macs",
    code: Code = "ours",
) -> Explanation:
    """Explain the number that a counter prints. Needs neither torch nor the counter.

    Args:
        counter: a key of `COUNTERS`, such as "fvcore".
        model: a configuration, or the name of a published network such as `"l1"`.
        resolution: height and width of the image in pixels, or one number for both.
        form: "trained" or "folded".
        quantity: "macs" or "params".
        code: whose code the counter is run on: "ours", "released" (the authors', timm's and mmpretrain's) or
            "huggingface". All compute the same function, but some counters give different results for them.

    Raises:
        ValueError: for an unknown counter, form, quantity or code, a model that does not exist, a resolution below 32
            pixels, or for quantity="params" with a counter that does not count parameters.
    """
    get_rule(counter)
    return explain_costs(counter, count(model, resolution, form), quantity, code)


def explain_costs(counter: str, costs: Costs, quantity: Quantity = "macs", code: Code = "ours") -> Explanation:
    """Do the same as `explain` for an existing ledger, so that it is not computed again for each counter.

    Raises:
        ValueError: for an unknown counter, quantity or code, or for quantity="params" with a counter that does not
            count parameters.
    """
    for name, value, allowed in (("quantity", quantity, get_args(Quantity)), ("code", code, get_args(Code))):
        if value not in allowed:
            raise ValueError(f"{name}={value!r} is not possible; allowed: {', '.join(allowed)}")
    rule = get_rule(counter)
    terms = rule.macs if quantity == "macs" else rule.params
    if terms is None:
        raise ValueError(f"{counter} counts operations, not parameters")
    steps = [CountStep(*_step(costs, term)) for term in terms if code in term.codes]
    if quantity == "macs" and rule.per_mac > 1:
        total = costs.macs + sum(step.amount for step in steps)
        steps.append(CountStep(f"{rule.per_mac} FLOPs for each MAC", (rule.per_mac - 1) * total))
    return Explanation(counter, quantity, code, costs, tuple(step for step in steps if step.amount))


def get_rule(counter: str) -> CounterRule:
    """The rule of a counter by name. Raises ValueError for an unknown name, with a suggestion or all names."""
    if counter not in COUNTERS:
        raise unknown_name(counter, COUNTERS, "counter")
    return COUNTERS[counter]


def _step(costs: Costs, term: Term) -> tuple[str, int]:
    amount = AMOUNTS[term.amount]
    return _describe(term), term.factor * sum(amount(row) for row in _matching_rows(costs, term))


def _matching_rows(costs: Costs, term: Term) -> Iterator[Operation]:
    for row in costs.rows:
        if row.kind in term.kinds and row.stage in term.stages and row.name.endswith(term.ends):
            act = costs.config.stem_act if row.stage == "stem" else costs.config.act
            if (row.kind != "activation" or act in term.acts) and term.when(costs.config, row):
                yield row


def _describe(term: Term) -> str:
    """Describe a term, such as `+ 2 × each element of batch norm` or `− each MAC of attention product`."""
    sign, often = "−" if term.factor < 0 else "+", f"{abs(term.factor)} × " if abs(term.factor) > 1 else ""
    what = " and ".join(term.kinds) + (f" {term.ends}" if term.ends else "")
    if term.acts != ANY_ACT:
        what = ", ".join(term.acts)
    where = (
        "" if term.stages == ANY_STAGE else f" in the {term.stages[0]}" if len(term.stages) == 1 else " after the stem"
    )
    return f"{sign} {often}each {term.amount} of {what}{where}"
