"""What Journeyman adds to vLLM's worker processes: weights from the learner, and an end when the parent ends.

vLLM imports this module in its engine process, by the name given as `worker_extension_cls`.
"""

import multiprocessing
import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class LearnerWeights:
    """Mixed into vLLM's worker, whose attributes it uses."""

    model_runner: Any

    def load_learner_weights(self, path: str) -> None:
        """Take the weights that `torch.save` wrote, names as in the checkpoint that the engine started from."""
        import torch

        weights = torch.load(path, mmap=True, weights_only=True)
        self.model_runner.reload_weights(weights_iterator=weights.items())
        if self.model_runner.device.type == "cpu":
            _repack(self.model_runner.get_model())


def _repack(model: "torch.nn.Module") -> None:
    """Renew the packed copies that CPU kernels multiply with.

    vLLM renews those of its linear layers only: a head that is tied to the embedding goes on with the old weights,
    and the log-probabilities are wrong without any error.
    """
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm  # pyright: ignore[reportMissingImports]

    for module in model.modules():
        if hasattr(module, "cpu_linear"):
            dispatch_cpu_unquantized_gemm(module, remove_weight=False)


def end_with_parent() -> None:
    """End this process when the process that started it is gone, however it went.

    vLLM's engine process outlives an actor that is killed; it would keep its memory, and the GPU's, for ever.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait, args=(parent,), name="end-with-parent", daemon=True).start()


def _wait(parent: Any) -> None:
    parent.join()
    os._exit(1)


end_with_parent()
