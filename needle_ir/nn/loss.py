"""Losses: SoftmaxLoss."""

from needle_ir import ops
from needle_ir.arguments import check_array
from needle_ir.init import check_labels
from needle_ir.nn.module import Module
from needle_ir.tensor import Tensor


class SoftmaxLoss(Module):
    """The cross-entropy of softmax(logits) and integer labels, averaged over the batch."""

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        """Logits (n, k) and labels (n,) to a scalar.

        Raises ValueError for a label that is not one of 0 … k - 1.
        """
        check_array("SoftmaxLoss", logits)
        if len(logits.shape) == 2:
            check_labels(y, logits.shape[1])
        return ops.softmax_loss(logits, y)
