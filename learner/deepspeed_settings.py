"""How a model is trained by DeepSpeed: the settings of a learner, and DeepSpeed's own configuration made of them."""

from dataclasses import dataclass
from typing import Any, Literal

from configs.schema import Config

BUCKET = 500_000_000  # largest bucket of a reduction, in elements (DeepSpeed's default)
LONE_BUCKET = 50_000_000  # of a rank that has nobody to reduce with: buckets are memory and nothing else


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepSpeedSettings:
    """How a model is trained."""

    zero_stage: int
    """Stage of ZeRO, 0..3."""
    lr: float
    """Learning rate after the warm-up."""
    warmup_steps: int
    """Steps of linear warm-up."""
    weight_decay: float
    """Weight decay of AdamW."""
    grad_clip: float
    """Largest global gradient norm."""
    gradient_checkpointing: bool
    """Whether activations are computed again in the backward pass."""
    device: Literal["cpu", "cuda"]
    """Where the ranks compute."""
    dtype: Literal["float32", "bfloat16"]
    """Of weights and activations."""
    optimizer_offload: bool
    """Whether Adam's states, and the float32 weights behind those of bfloat16, lie in the CPU's memory."""


def deepspeed_settings(
    config: Config, *, zero_stage: int, lr: float, warmup_steps: int, weight_decay: float = 0.0, grad_clip: float = 1.0
) -> DeepSpeedSettings:
    """Return the settings of one learner: its own numbers, the rest from the sections that all learners share."""
    return DeepSpeedSettings(
        zero_stage=zero_stage,
        lr=lr,
        warmup_steps=warmup_steps,
        weight_decay=weight_decay,
        grad_clip=grad_clip,
        gradient_checkpointing=config.learner.gradient_checkpointing,
        device=config.cluster.device,
        dtype=config.dtype,
        optimizer_offload=config.learner.optimizer_offload,
    )


def ds_config(settings: DeepSpeedSettings, size: int) -> dict[str, Any]:
    """Return DeepSpeed's configuration for a model of `size` parameters."""
    bucket = min(BUCKET, size + size % 2)  # a bucket is allocated whole, so not larger than the model; it must be even
    zero: dict[str, Any] = {"stage": settings.zero_stage, "overlap_comm": settings.device == "cuda"}
    zero |= {"reduce_bucket_size": bucket, "allgather_bucket_size": bucket}
    out = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": settings.grad_clip,
        "zero_optimization": zero,
        "bf16": {"enabled": settings.dtype == "bfloat16"},
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }
    if settings.zero_stage:
        # By default gradients of micro-batches and ranks are summed in the format of the weights; without ZeRO they must be.
        out |= {"data_types": {"grad_accum_dtype": "fp32"}, "communication_data_type": "fp32"}
    if settings.optimizer_offload:
        # With torch's AdamW: DeepSpeed's own for CPUs is compiled when it is first made, with a compiler and CUDA's headers.
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": settings.device == "cuda"}
        out["zero_force_ds_cpu_optimizer"] = False
    return out
