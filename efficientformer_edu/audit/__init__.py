"""Count parameters and multiply-accumulates (MACs), operation by operation, without torch or numpy.

Only `audit.counters` and `audit.modules` import torch, because they run other tools on a real network.
"""

from efficientformer_edu.audit.explain import Explanation, explain
from efficientformer_edu.audit.ledger import Costs, Form, Kind, Operation, Sums, count
from efficientformer_edu.audit.rules import COUNTERS

__all__ = ["COUNTERS", "Costs", "Explanation", "Form", "Kind", "Operation", "Sums", "count", "explain"]
