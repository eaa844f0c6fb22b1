"""DeepSpeed, and the process group of a learner's ranks: the only file that imports it.

Measured traps that this file keeps away from its callers: no operator that is compiled on first use (a build takes
minutes, and a killed one hangs the next process), models loaded before ``initialize`` (weights written afterwards are
silently undone), gradients that are averaged over ranks while our losses are sums with global divisors, and the same
number of micro-batches on every rank (see ``batching.split_micro_batches``).
"""

import logging
import math
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from learner.checkpoint import CheckpointError

BUCKET = 500_000_000
"""Largest bucket of a reduction, in elements (DeepSpeed's default)."""
TAG = "engine"


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepSpeedSettings:
    """How a model is trained. zero_stage 0..3; warmup_steps of linear warm-up; grad_clip: largest gradient norm."""

    zero_stage: int
    lr: float
    warmup_steps: int
    weight_decay: float
    grad_clip: float
    gradient_checkpointing: bool
    device: Literal["cpu", "cuda"]
    dtype: Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """lr: the learning rate that this step used. grad_norm: global gradient norm before clipping."""

    lr: float
    grad_norm: float


class NotFinite(FloatingPointError):
    """A loss or gradient is not finite on some rank; no rank took the step, and all is as it was before the batch."""


def deepspeed(device: str) -> ModuleType:
    """The DeepSpeed module, with its accelerator chosen, just-in-time compilation off, and no pickle read from disk."""
    if device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # stronger than the weights_only=False of DeepSpeed's own calls
    import deepspeed as module

    # A table of operators that may be compiled, read when the process group is made; left empty, the shared-memory
    # collective (186 s to build, used by inference only) is never built. Not a public switch: a test watches it.
    module.ops.__compatible_ops__ = {}
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    return module


class Ranks:
    """The processes of one learner: one process per rank, a group of its own, collectives in the same order."""

    def __init__(
        self,
        *,
        rank: int,
        world: int,
        host: str,
        port: int,
        device: Literal["cpu", "cuda"],
        timeout_s: float,
        listener: socket.socket | None = None,
    ) -> None:
        """Joins the group; returns when all ranks have joined, RuntimeError after ``timeout_s`` without them.

        host, port: where rank 0 listens; 0 is any free port, for a rank that is alone. listener: rank 0's socket, if it
        listens there already: a port that was only looked up may be another's by the time that it is used.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(f"rank {rank} sees no GPU, but cluster.device is cuda: give it one, or set it to cpu")
        self.rank, self.world = rank, world
        local = rank % torch.cuda.device_count() if device == "cuda" else 0
        self.device = torch.device(device, local) if device == "cuda" else torch.device("cpu")
        if device == "cuda":
            torch.cuda.set_device(self.device)
        else:
            torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        if host == "127.0.0.1":
            os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        place = {"RANK": rank, "LOCAL_RANK": local, "WORLD_SIZE": world, "LOCAL_SIZE": world}
        os.environ |= {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": host, "MASTER_PORT": str(port)}
        self._deepspeed = deepspeed(device)
        backend, timeout = "nccl" if device == "cuda" else "gloo", timedelta(seconds=timeout_s)
        listening = listener.detach() if listener else None
        try:
            self._store = torch.distributed.TCPStore(  # type: ignore[attr-defined]
                host, port, world, is_master=rank == 0, timeout=timeout, master_listen_fd=listening
            )
            torch.distributed.init_process_group(
                backend,
                store=self._store,
                rank=rank,
                world_size=world,
                timeout=timeout,
                device_id=self.device if device == "cuda" and world > 1 else None,  # as DeepSpeed does
            )
            self._deepspeed.init_distributed(backend, verbose=False, timeout=timeout)  # finds the group and takes it
        except RuntimeError as error:
            raise RuntimeError(
                f"rank {rank} waited up to {timeout_s:.0f} s at {host}:{port} for all {world} ranks to join: {error}"
            ) from error

    def broadcast_bytes(self, payload: bytes) -> bytes:
        """Rank 0's ``payload`` on every rank; what the other ranks pass is ignored."""
        length = torch.tensor([len(payload)], device=self.device)
        torch.distributed.broadcast(length, src=0)
        if self.rank == 0:
            data = torch.frombuffer(bytearray(payload), dtype=torch.uint8) if payload else torch.empty(0)
        else:
            data = torch.empty(int(length), dtype=torch.uint8)
        if int(length) == 0:
            return b""
        data = data.to(self.device)
        torch.distributed.broadcast(data, src=0)
        return data.cpu().numpy().tobytes()

    def sum(self, values: Tensor) -> Tensor:
        """``values`` (any shape) summed over the ranks, on the CPU."""
        total = values.detach().to(self.device, copy=True)
        torch.distributed.all_reduce(total)
        return total.cpu()

    def barrier(self) -> None:
        self.sum(torch.zeros(1))

    def leave(self) -> None:
        """Ends the group; the process may then join another."""
        self._deepspeed.comm.destroy_process_group()
        self._deepspeed.comm.comm.cdb = None
        del self._store  # rank 0 listens no more


class Engine:
    """A module in training: its optimiser, its partitioning over ranks, its schedule.

    One optimiser step is ``backward(loss, last=...)`` for each micro-batch, then ``step()``: the gradient of the sum of all
    losses over all ranks.
    """

    def __init__(self, build: Callable[[], nn.Module], settings: DeepSpeedSettings, ranks: Ranks) -> None:
        """``build`` makes the module with its weights loaded; called once, where partitioned loading is possible."""
        self.ranks, self._settings = ranks, settings
        ds = deepspeed(settings.device)
        with loading(settings):
            module = build()
        if settings.gradient_checkpointing:
            _enable_checkpointing(module)
        module.train().to(ranks.device)
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
        warmup = max(1, settings.warmup_steps)
        # A torch schedule: DeepSpeed's own run their first step at a learning rate of 0.
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, (step + 1) / warmup))
        chosen = _config(settings, sum(_numel(parameter) for parameter in parameters))
        self._engine, *_ = ds.initialize(
            model=module, optimizer=optimiser, lr_scheduler=schedule, dist_init_required=False, config=chosen
        )
        self._deepspeed = ds

    @property
    def module(self) -> Any:
        """The module as it was built (under ZeRO 3 its weights are partitioned: see ``full_state``)."""
        return self._engine.module

    def __call__(self, *args: Any) -> Any:
        """The module's forward pass; a collective under ZeRO 3."""
        return self._engine(*args)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Adds the gradient of ``loss``, this rank's part of a sum over ranks. last: of this rank's micro-batches."""
        self._engine.set_gradient_accumulation_boundary(last)
        # Gradients are averaged over ranks: times the number of ranks is their sum. A loss that is not finite makes its
        # gradient NaN, which the sum carries to all ranks, so that `step` has one thing to look at.
        scale = torch.where(loss.detach().isfinite(), float(self.ranks.world), math.nan)
        self._engine.backward(loss * scale, scale_wrt_gas=False)
        if not last:
            self._engine.step()

    def step(self) -> StepResult:
        """Clips and applies the summed gradient, once; after the last ``backward`` of a batch.

        Raises:
            NotFinite: on all ranks. The next batch is trained on as if this one had never been.
        """
        lr = float(self._engine.get_lr()[0])
        partitioned = self._settings.zero_stage > 0 or self._settings.dtype == "bfloat16"
        norm = None if partitioned else _grad_norm(self.module)
        if norm is None or math.isfinite(norm):  # on all ranks alike: they hold the same gradients
            self._engine.step()  # where partitioned, DeepSpeed looks at the norm over all ranks first, and takes no bad step
            if self._engine.was_step_applied():
                return StepResult(lr=lr, grad_norm=float(self._engine.get_global_grad_norm()) if norm is None else norm)
        self._engine.zero_grad()
        raise NotFinite("the loss or its gradient is not finite")

    def full_state(self, module: nn.Module) -> dict[str, Tensor]:
        """Whole weights of ``module`` (a part of this engine's) by name, copied to the CPU of rank 0.

        A collective. Empty on the other ranks. Tied weights stand under the first of their names only.
        """
        gather = self._deepspeed.zero.GatheredParameters if self._settings.zero_stage == 3 else nullcontext
        state = {}
        for name, parameter in module.named_parameters():
            with gather([parameter]):
                if self.ranks.rank == 0:
                    state[name] = parameter.detach().to("cpu", copy=True)
        return state

    def save(self, folder: Path) -> None:
        """Optimiser, schedule and partitioned weights into ``folder``, each rank its part; a collective."""
        self._engine.save_checkpoint(str(folder), tag=TAG, save_latest=False)

    def load(self, folder: Path) -> None:
        """What ``save`` wrote with as many ranks and the same ZeRO stage; a collective. CheckpointError when it holds more
        than tensors and plain values; whatever that is, it was not run."""
        from deepspeed.runtime.fp16.loss_scaler import LossScaler
        from deepspeed.runtime.zero.config import ZeroStageEnum
        from deepspeed.utils.tensor_fragment import fragment_address

        try:  # DeepSpeed saves these beside tensors and built-in types; they hold numbers
            with torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
                path, _ = self._engine.load_checkpoint(str(folder), tag=TAG)
        except UnpicklingError as error:
            what = f"{folder / TAG} holds more than an engine's state, which could run code, and was not loaded"
            raise CheckpointError(f"{what}: find out who wrote it; without it the checkpoint before is used") from error
        if path is None:
            raise FileNotFoundError(f"{folder}: holds no state of {self.ranks.world} ranks to resume from")

    def close(self) -> None:
        self._engine.destroy()


class Frozen:
    """A module that is only evaluated: a plain copy per rank, or partitioned over the ranks at ZeRO 3."""

    def __init__(self, build: Callable[[], nn.Module], settings: DeepSpeedSettings, ranks: Ranks) -> None:
        with loading(settings):
            module = build()
        module.eval().requires_grad_(False).to(ranks.device)
        self._call: Callable[..., Any] = module
        if settings.zero_stage == 3:
            ds, size = deepspeed(settings.device), sum(_numel(parameter) for parameter in module.parameters())
            self._call, *_ = ds.initialize(model=module, dist_init_required=False, config=_config(settings, size))

    def __call__(self, *args: Any) -> Any:
        """The module's forward pass without gradient; a collective under ZeRO 3."""
        with torch.no_grad():
            return self._call(*args)


@contextmanager
def loading(settings: DeepSpeedSettings) -> Iterator[None]:
    """Where pretrained models are loaded: at ZeRO 3 each rank keeps its part only, as the weights come in."""
    if settings.zero_stage < 3:
        yield
        return
    from transformers.integrations.deepspeed import HfDeepSpeedConfig

    alive = HfDeepSpeedConfig(_config(settings, BUCKET))  # held by a weak reference elsewhere
    yield
    del alive


def _config(settings: DeepSpeedSettings, size: int) -> dict[str, Any]:
    """DeepSpeed's configuration for a model of ``size`` parameters."""
    bucket = min(BUCKET, size + size % 2)  # a bucket is allocated whole, so not larger than the model; it must be even
    zero: dict[str, Any] = {"stage": settings.zero_stage, "overlap_comm": settings.device == "cuda"}
    zero |= {"reduce_bucket_size": bucket, "allgather_bucket_size": bucket}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": settings.grad_clip,
        "zero_optimization": zero,
        "bf16": {"enabled": settings.dtype == "bfloat16"},
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }


def _enable_checkpointing(module: nn.Module) -> None:
    """Of the Hugging Face model inside; it keeps one layer's activations at a time and computes the rest again."""
    model = next(part for part in module.modules() if isinstance(part, PreTrainedModel))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _numel(parameter: Tensor) -> int:
    """Elements of a whole parameter, also of one that is partitioned already."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def _grad_norm(module: nn.Module) -> float:
    """Norm of the gradients that stand in full on this rank (ZeRO 0, where DeepSpeed reports none)."""
    grads = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return float(nn.utils.get_total_norm(grads))
