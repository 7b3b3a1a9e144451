"""The rules of the other counters against the integers that these counters print for the released networks."""

from __future__ import annotations

import subprocess
import sys

import pytest

from efficientformer_edu.audit import COUNTERS, Explanation, count, explain
from efficientformer_edu.audit.explain import CountStep
from efficientformer_edu.audit.rules import AMOUNTS
from efficientformer_edu.config import PRESETS

NAMES = tuple(PRESETS)

# MACs (flop_counter: FLOPs) for L1, L3 and L7 of the released code at 224×224, as each tool printed it.
RELEASED = {
    "flop_counter": (2_582_569_472, 7_813_146_624, 20_238_651_392),
    "fvcore": (1_302_113_344, 3_929_353_216, 10_165_500_160),
    "thop": (1_310_404_928, 3_940_492_288, 10_187_314_176),
    "ptflops": (1_314_627_984, 3_949_965_008, 10_207_110_608),
    "ptflops-aten": (1_296_743_376, 3_918_303_952, 10_143_224_016),
    "torchinfo": (1_161_381_376, 3_250_882_320, 7_549_479_920),
    "toolbox": (1_300_053_440, 3_925_848_064, 10_159_032_832),
    "mmpretrain": (1_304_601_088, 3_928_818_432, 10_163_951_616),
}
PARAMS = {
    "toolbox": (12_250_227, 31_330_131, 82_106_483),
    "thop": (12_282_592, 31_389_072, 82_196_624),
    "fvcore": (12_289_928, 31_406_000, 82_229_328),
}


@pytest.mark.parametrize("counter", RELEASED)
def test_output_of_every_counter_for_the_released_networks(counter: str) -> None:
    assert tuple(explain(counter, name, code="released").total for name in NAMES) == RELEASED[counter]


def test_every_counter_except_intended_matches_its_integers() -> None:
    assert set(COUNTERS) - set(RELEASED) == {"toolbox-intended"}
    # How the toolbox would count GELU if its hook saw the batch; only three decimals of a billion are known.
    intended = [explain("toolbox-intended", name).total / 1e9 for name in NAMES]
    assert [round(billions, 3) for billions in intended] == [1.304, 3.934, 10.175]


@pytest.mark.parametrize("counter", PARAMS)
def test_parameters_of_every_counter(counter: str) -> None:
    assert tuple(explain(counter, name, quantity="params").total for name in NAMES) == PARAMS[counter]


def test_the_same_network_written_by_hugging_face() -> None:
    totals = [explain("ptflops", name, code="huggingface").total for name in NAMES]
    assert totals == [1_310_074_512, 3_945_398_992, 10_196_774_352]


def test_folded_batch_norms_only() -> None:
    """The networks with two heads whose batch norms are folded, as other projects ship them."""
    fused = [count(name).params - count(name).by("kind")["batch norm"].params for name in NAMES]
    assert fused == [12_258_008, 31_347_568, 82_139_952]
    norms = [2 * count(name).by("kind")["batch norm"].elements for name in NAMES]
    totals = [explain("fvcore", name).total - norm for name, norm in zip(NAMES, norms, strict=True)]
    assert totals == [1_291_614_016, 3_907_702_272, 10_122_524_416]


def test_folded_and_merged() -> None:
    assert [count(name, form="folded").params for name in NAMES] == [11_804_696, 30_823_272, 81_346_888]
    tables = [count(name).by("kind")["attention bias"].params for name in NAMES]
    scales = [
        sum(row.params for row in count(name).rows if row.kind == "layer scale")
        - sum(row.params for row in count(name, form="folded").rows if row.kind == "layer scale")
        for name in NAMES
    ]
    merged = [
        count(name, form="folded").params + table + scale
        for name, table, scale in zip(NAMES, tables, scales, strict=True)
    ]
    assert merged == [11_809_008, 30_834_568, 81_370_952]


def test_the_counting_errors_of_the_toolbox() -> None:
    """Biases counted as inputs telescope to the last width less the image's channels."""
    for name, (norms, scales, tables, slip) in zip(
        NAMES, [(31_920, 6_944, 392, 445), (58_432, 15_360, 1_568, 509), (89_376, 29_568, 3_136, 765)], strict=True
    ):
        steps = [step.amount for step in explain("toolbox", name, quantity="params").steps]
        assert steps[:3] == [-scales, -tables, -norms]
        assert sum(steps[3:]) == -slip == PRESETS[name].in_channels - PRESETS[name].embed_dims[-1]


def test_the_steps_add_up_to_the_printed_count() -> None:
    explanation = explain("fvcore", "l1")
    assert explanation.steps == (
        CountStep("+ 2 × each element of batch norm", 10_499_328),
        CountStep("+ 5 × each element of layer norm", 329_280),
    )
    assert explanation.start + 10_499_328 + 329_280 == explanation.total
    assert explanation.remainder(1_302_113_344) == 0
    assert explanation.remainder(1_302_113_345) == 1
    lines = explanation.to_markdown().splitlines()
    assert lines[2] == "| our MACs | 1,291,284,736 |"
    assert lines[-1] == "| **fvcore prints** | **1,302,113,344** |"


def test_flops_are_twice_the_macs() -> None:
    (step,) = explain("flop_counter", "l3").steps
    assert step == CountStep("2 FLOPs for each MAC", count("l3").macs)


@pytest.mark.parametrize("counter", COUNTERS)
def test_every_step_is_described(counter: str) -> None:
    def descriptions(explanation: Explanation) -> list[str]:
        return [step.description for step in explanation.steps]

    steps = descriptions(explain(counter, "l1", 256))
    assert len(steps) == len(set(steps))
    assert all(text.startswith(("+ ", "− ", "2 FLOPs")) for text in steps)
    assert all(term.amount in AMOUNTS for term in (*COUNTERS[counter].macs, *(COUNTERS[counter].params or ())))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: explain("fvcor", "l1"), "Unknown counter 'fvcor'. Did you mean 'fvcore'?"),
        (lambda: explain("deepspeed", "l1"), "Unknown counter 'deepspeed'. Available: fvcore, flop_counter"),
        (lambda: explain("fvcore", "l1", quantity="bytes"), "quantity='bytes' is not possible; allowed: macs, params"),
        (lambda: explain("fvcore", "l1", code="keras"), "code='keras' is not possible; allowed: ours, released"),
        (lambda: explain("flop_counter", "l1", quantity="params"), "flop_counter counts operations, not parameters"),
        (lambda: explain("fvcore", "l1", 20), "resolution=20"),
    ],
)
def test_errors_name_the_allowed_values(call, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value).startswith(message)


def test_needs_neither_torch_nor_numpy() -> None:
    code = "import sys; from efficientformer_edu.audit import explain; explain('thop', 'l1'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "efficientformer_edu.audit.explain" in loaded
    assert not {"torch", "numpy"} & set(loaded)
