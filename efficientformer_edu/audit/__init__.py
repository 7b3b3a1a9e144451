"""Count it: parameters and multiply-accumulates, operation by operation. Needs neither torch nor numpy.

Only `audit.counters` and `audit.modules`, which run other tools on a real network, import torch.
"""

from efficientformer_edu.audit.analytic import count
from efficientformer_edu.audit.costs import Costs, Form, Kind, Operation, Sums
from efficientformer_edu.audit.explain import Explanation, explain
from efficientformer_edu.audit.rules import COUNTERS

__all__ = ["COUNTERS", "Costs", "Explanation", "Form", "Kind", "Operation", "Sums", "count", "explain"]
