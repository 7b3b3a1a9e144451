"""Count it: parameters and multiply-accumulates, operation by operation. Needs neither torch nor numpy."""

from efficientformer_edu.audit.analytic import count
from efficientformer_edu.audit.costs import Costs, Kind, Operation

__all__ = ["Costs", "Kind", "Operation", "count"]
