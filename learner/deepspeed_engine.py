"""A model in training or frozen, partitioned by DeepSpeed: with deepspeed_*.py and `ranks` all that knows DeepSpeed.

Measured traps that this file keeps away from its callers: models loaded before `initialize` (weights written afterwards
are silently undone), gradients that are averaged over ranks while our losses are sums with global divisors, and the same
number of micro-batches on every rank (see `batching.split_micro_batches`).
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from learner.checkpoint import ENGINE, CheckpointError
from learner.checkpoint_writer import write_state
from learner.deepspeed_files import engine_files
from learner.deepspeed_import import deepspeed
from learner.deepspeed_settings import BUCKET, LONE_BUCKET, DeepSpeedSettings, ds_config
from learner.host_buffers import HostBuffers
from learner.models import saved_buffers
from learner.ranks import Ranks

STATE_BYTES = 16  # for each trained weight, at most: itself, AdamW's float32 weight and its two moments

GATHERED = 1 << 30  # bytes of weights that are whole on a GPU at a time, while they are copied from it


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """What an optimiser step used and found."""

    lr: float
    """Learning rate of this step."""
    grad_norm: float
    """Global gradient norm before clipping."""


class NotFinite(FloatingPointError):
    """A loss or gradient is not finite on some rank; no rank took the step, and nothing changed since before the batch."""


class Engine:
    """A module in training: its optimiser, its partitioning over ranks, its schedule.

    One optimiser step is `backward(loss, last=...)` for each micro-batch, then `step()`: the gradient of the sum of all
    losses over all ranks.
    """

    def __init__(self, build: Callable[[], nn.Module], settings: DeepSpeedSettings, ranks: Ranks) -> None:
        """Build the module and partition it. A collective.

        Args:
            build: makes the module with its weights loaded; called once, where partitioned loading is possible.
            settings: how it is trained.
            ranks: the ranks that train it together.
        """
        self.ranks, self._settings = ranks, settings
        ds = deepspeed(settings.device)
        if settings.optimizer_offload and settings.device == "cuda":  # as on CPUs a process has one thread otherwise
            torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks.on_this_machine()))
        with loading(settings):
            module = build()
        if settings.gradient_checkpointing:
            _enable_checkpointing(module)
        module.train().to(ranks.device)
        module.register_state_dict_post_hook(_drop_frozen)
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
        warmup = max(1, settings.warmup_steps)
        # A torch schedule: DeepSpeed's own run their first step at a learning rate of 0.
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, (step + 1) / warmup))
        size = sum(_numel(parameter) for parameter in parameters)
        configuration = ds_config(settings, size if ranks.world > 1 else min(size, LONE_BUCKET))
        self._engine, *_ = ds.initialize(
            model=module, optimizer=optimiser, lr_scheduler=schedule, dist_init_required=False, config=configuration
        )
        self._deepspeed, self._size = ds, size
        self._files = self._engine.checkpoint_engine = engine_files()

    @property
    def module(self) -> Any:
        """The module as it was built (under ZeRO 3 its weights are partitioned: see `full_state`)."""
        return self._engine.module

    def __call__(self, *args: Any) -> Any:
        """Run the module's forward pass; a collective under ZeRO 3."""
        return self._engine(*args)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradient of a micro-batch.

        Args:
            loss: this rank's part of a sum over ranks.
            last: whether it is the last micro-batch of this rank.
        """
        self._engine.set_gradient_accumulation_boundary(last)
        # Gradients are averaged over ranks: times the number of ranks is their sum. A loss that is not finite makes its
        # gradient NaN, which the sum carries to all ranks, so that `step` has one thing to check.
        scale = torch.where(loss.detach().isfinite(), float(self.ranks.world), math.nan)
        self._engine.backward(loss * scale, scale_wrt_gas=False)
        if not last:
            self._engine.step()

    def step(self) -> StepResult:
        """Clip and apply the summed gradient, once, after the last `backward` of a batch. A collective.

        Raises:
            NotFinite: on all ranks. The next batch is trained on as if this one had never been.
        """
        lr = float(self._engine.get_lr()[0])
        partitioned = self._settings.zero_stage > 0 or self._settings.dtype == "bfloat16"
        norm = None if partitioned else _grad_norm(self.module)
        if norm is None or math.isfinite(norm):  # on all ranks alike: they hold the same gradients
            self._engine.step()  # where partitioned, DeepSpeed checks the norm over all ranks first, and takes no bad step
            if self._engine.was_step_applied():
                return StepResult(lr=lr, grad_norm=float(self._engine.get_global_grad_norm()) if norm is None else norm)
        self._engine.zero_grad()
        raise NotFinite("the loss or its gradient is not finite")

    def full_state(self, module: nn.Module, into: HostBuffers | None = None) -> dict[str, Tensor]:
        """Return the whole weights of `module` (inside this engine's) by name, copied to the CPU of rank 0. A collective.

        Empty on the other ranks. Tied weights stand under the first of their names only. What is saved with the weights
        although it is not trained, as the bias of a router's scores, is among them.

        Args:
            module: the module.
            into: where they are copied to; by default each time to memory of their own.
        """
        buffers = saved_buffers(module).items() if self.ranks.rank == 0 else ()
        return self._gathered(module.named_parameters(), into, buffers)

    def trained_state(self, module: nn.Module, into: HostBuffers | None = None) -> dict[str, Tensor]:
        """Return as `full_state` does those weights of `module` that are trained: adapters, where others are frozen."""
        named = module.named_parameters()
        return self._gathered(((name, parameter) for name, parameter in named if parameter.requires_grad), into)

    def _gathered(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        into: HostBuffers | None,
        whole: Iterable[tuple[str, Tensor]] = (),
    ) -> dict[str, Tensor]:
        """Return copies of parameters, which at ZeRO 3 are gathered in groups, and of tensors that are whole on rank 0."""
        gather = self._deepspeed.zero.GatheredParameters if self._settings.zero_stage == 3 else nullcontext
        state = {}

        def copy(name: str, tensor: Tensor) -> None:
            state[name] = into.copy(name, tensor) if into else tensor.detach().to("cpu", copy=True)

        for group in _in_groups(parameters):
            with gather([parameter for _, parameter in group]):
                if self.ranks.rank == 0:
                    for name, parameter in group:
                        copy(name, parameter)
        for name, tensor in whole:
            copy(name, tensor)
        if into:
            into.complete()
        return state

    def save(self, folder: Path, write: Callable[[Any, Path], object] = write_state) -> None:
        """Give optimiser, schedule and partitioned weights to `write`, each rank its partition. A collective.

        Weights that are frozen are left out: they are as the module was built.

        Args:
            folder: of a checkpoint. DeepSpeed puts scripts into it.
            write: gets what `load` reads from a file, and the path of the file. It must not keep what it gets: those are the
                states themselves, and the next step changes them.
        """
        self._files.write = write
        try:
            self._engine.save_checkpoint(str(folder), tag=ENGINE, save_latest=False, exclude_frozen_parameters=True)
        finally:
            self._files.write = write_state  # nothing that `write` holds, as copies of all states, is kept with it

    @property
    def state_bytes(self) -> int:
        """Bytes of what this rank gives to `write`, at most."""
        stage, ranks = self._settings.zero_stage, self.ranks
        of_module = 4 * self._size if stage < 3 and ranks.rank == 0 else 0
        return of_module + STATE_BYTES * self._size // (ranks.world if stage else 1)

    def load(self, folder: Path) -> None:
        """Load what `save` wrote with as many ranks and the same ZeRO stage. A collective.

        Raises:
            CheckpointError: the files hold more than tensors and plain values; whatever that is, it was not run.
            FileNotFoundError: there is no state of as many ranks.
        """
        from deepspeed.runtime.fp16.loss_scaler import LossScaler
        from deepspeed.runtime.zero.config import ZeroStageEnum
        from deepspeed.utils.tensor_fragment import fragment_address

        try:  # DeepSpeed saves these beside tensors and built-in types; they hold numbers
            with torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
                path, _ = self._engine.load_checkpoint(str(folder), tag=ENGINE, custom_load_fn=_load_trained)
        except UnpicklingError as error:
            what = f"{folder / ENGINE} holds more than an engine's state, which could run code, and was not loaded"
            raise CheckpointError(f"{what}: find out who wrote it; without it the checkpoint before is used") from error
        if path is None:
            raise FileNotFoundError(f"{folder}: holds no state of {self.ranks.world} ranks to resume from")

    def close(self) -> None:
        """Free the engine. For tests: in a run the process is killed."""
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
            self._call, *_ = ds.initialize(model=module, dist_init_required=False, config=ds_config(settings, size))

    def __call__(self, *args: Any) -> Any:
        """Run the module's forward pass without gradient; a collective under ZeRO 3."""
        with torch.no_grad():
            return self._call(*args)


@contextmanager
def loading(settings: DeepSpeedSettings) -> Iterator[None]:
    """Load pretrained models inside it: at ZeRO 3 each rank keeps only its partition, as the weights come in."""
    if settings.zero_stage < 3:
        yield
        return
    from transformers.integrations.deepspeed import HfDeepSpeedConfig

    alive = HfDeepSpeedConfig(ds_config(settings, BUCKET))  # held by a weak reference elsewhere
    yield
    del alive


def _enable_checkpointing(module: nn.Module) -> None:
    """Let the Hugging Face model inside keep one layer's activations at a time and compute the others again."""
    model = next(inner for inner in module.modules() if isinstance(inner, PreTrainedModel))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _in_groups(parameters: Iterable[tuple[str, nn.Parameter]]) -> Iterator[list[tuple[str, nn.Parameter]]]:
    """Yield parameters in groups of up to GATHERED bytes, at least one in each."""
    group, size = list[tuple[str, nn.Parameter]](), 0
    for name, parameter in parameters:
        bytes_ = _numel(parameter) * parameter.element_size()
        if group and size + bytes_ > GATHERED:
            yield group
            group, size = [], 0
        group.append((name, parameter))
        size += bytes_
    yield group


def _load_trained(src: Mapping[str, Tensor], dst: nn.Module) -> None:
    """Load what `Engine.save` wrote of a module: all of it but the weights that are frozen."""
    found = dst.load_state_dict(src, strict=False)
    if odd := [*found.unexpected_keys, *(name for name in found.missing_keys if name not in _frozen(dst))]:
        raise CheckpointError(f"the checkpoint's engine and this module do not both have {odd[0]}: it is of another model")


def _drop_frozen(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Leave frozen weights out of the module's state. (DeepSpeed's own way keeps the second name of tied ones.)"""
    for name in _frozen(module):
        state.pop(prefix + name, None)


def _frozen(module: nn.Module) -> set[str]:
    """Return all names of the weights that are not trained."""
    named = module.named_parameters(remove_duplicate=False)
    return {name for name, parameter in named if not parameter.requires_grad}


def _numel(parameter: Tensor) -> int:
    """Return the elements of a whole parameter, also of one that is partitioned already."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def _grad_norm(module: nn.Module) -> float:
    """Return the norm of the gradients that are whole on this rank (ZeRO 0, where DeepSpeed reports none)."""
    grads = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return float(nn.utils.get_total_norm(grads))
