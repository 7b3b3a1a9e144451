"""Numbers, claims and equations reported by the paper, as data with sources.

*EfficientFormer: Vision Transformers at MobileNet Speed*, NeurIPS 35 (2022), pages 12934-12949, arXiv 2206.01191.

Nothing in this subpackage is computed or measured. `TAGS` explains the letters after each value:

    >>> str(table1()["l1", "top1"])
    '79.2 % (reported, V, CP)'
"""

from __future__ import annotations

from efficientformer_edu.paper.records import TAGS, Reported, Statement
from efficientformer_edu.paper.statements import (
    Architecture,
    Difference,
    Equation,
    Observation,
    Printed,
    Profile,
    Setting,
    Share,
    Step,
    algorithm1,
    architectures,
    differences,
    equation,
    equations,
    figure2,
    observations,
    remarks,
    settings,
    slimming_actions,
)
from efficientformer_edu.paper.tables import (
    Column,
    Ratio,
    Row,
    Table,
    appendix_b,
    external_accuracies,
    external_counts,
    external_latencies,
    ratios,
    table1,
    table2,
)

__all__ = [
    "TAGS",
    "Architecture",
    "Column",
    "Difference",
    "Equation",
    "Observation",
    "Printed",
    "Profile",
    "Ratio",
    "Reported",
    "Row",
    "Setting",
    "Share",
    "Statement",
    "Step",
    "Table",
    "algorithm1",
    "appendix_b",
    "architectures",
    "differences",
    "equation",
    "equations",
    "external_accuracies",
    "external_counts",
    "external_latencies",
    "figure2",
    "observations",
    "ratios",
    "remarks",
    "settings",
    "slimming_actions",
    "table1",
    "table2",
]
