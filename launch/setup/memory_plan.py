"""Memory of a process by arithmetic, in bytes, from a model's shape: pure functions. GB is 10^9 bytes.

A rank with P parameters, W ranks, w bytes a weight, m tokens in a micro-batch, and a model of L layers, width h, MLP width i,
vocabulary V:

    states        s P       (w + 4) P + (s - w - 4) P / W      w P + (s - w) P / W      s P / W      at ZeRO 0, 1, 2, 3
                  weights, gradients in float32, AdamW's moments and, beside bfloat16, float32 weights: s = 16, or 18 in
                  bfloat16 (16 at ZeRO 0, whose gradients have the format of the weights); with the optimiser offloaded
                  weights alone, at ZeRO 1 gradients too; then 12 P / W lie in the machine's memory, at ZeRO 2, 3 16 P / W
    reference     w P, at ZeRO 3 w P / W                   the frozen policy, where there is a KL term
    buffers       reduction buckets; at ZeRO 3 the gathered layers as well
    head          V h (2 w + 4), at ZeRO 2 V h (w + 4)     gathered, its whole gradient, and the sum over chunks in float32
                  + 3 x 4 x logits of a chunk              or the layer below, whichever is more
    kept          m L h w                                  what gradient checkpointing keeps: the input of each layer
                  m L (a h + 4 i) w                        without it: all that the backward pass reads
    one layer     m (a h + 8 i) w                          computed again, with the gradients of its MLP; a is 10, in
                                                           bfloat16 14, whose norms keep float32
    step          the optimiser's temporaries, when kept, layer and embedding are gone again

    peak = states + reference + buffers + runtime + max(head + kept + layer + attention, step)

With LoRA of rank r, P stands for the numbers of the adapters in states, buffers and step, and all else is frozen: w P more, no
reference (it is the same weights without their adapters), no gradient of the head.

An engine holds w P, its KV cache, its adapters (on CPU twice), and what vLLM's largest batch and CUDA take; on CPU in float32
w P again, laid out for the kernels (`actors.vllm_packing`), a little less where embedding and head are two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from launch.setup.model_shape import ModelShape

GB = 1e9
WIDTHS: Mapping[str, int] = MappingProxyType({"float32": 4, "bfloat16": 2})  # w by dtype
BUCKET, LONE_BUCKET = 500_000_000, 50_000_000  # elements of a reduction bucket, of a lone rank's (`learner.deepspeed_settings`)
LOGITS = {True: 1 << 28, False: 1 << 24}  # of a chunk, on CUDA and not (`learner.logprobs`)
GATHERED = 1_000_000_000  # elements that ZeRO 3 holds gathered at a time (DeepSpeed's stage3_max_live_parameters)
SUB_GROUP = 1_000_000_000  # elements that ZeRO 3 takes an optimiser step on at a time (DeepSpeed's sub_group_size)
WHOLE_HEADS = {0: 0, 1: 0, 2: 1, 3: 2}  # by ZeRO stage: whole copies of the head, and of its gradient, for a while
PROCESS = 0.75 * GB  # interpreter, libraries and buffers of an actor on CPU, as measured
CUDA = 1.5 * GB  # a context with its workspaces, and what the allocator cannot use; of an engine, its graphs too
NCCL = 0.5 * GB  # of a rank that has others
ENGINE_BATCH = 8192  # tokens of vLLM's largest batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How a rank trains."""

    ranks: int
    """W, data-parallel processes."""
    zero_stage: int
    """What is divided among them."""
    micro_tokens: int
    """m, tokens of a micro-batch, padding included."""
    checkpointing: bool
    """Whether activations are computed again in the backward pass."""
    width: int
    """w, bytes of a weight: 2 in bfloat16, 4 in float32."""
    cuda: bool
    """On a GPU, or in the machine's own memory."""
    offload: bool = False
    """Whether the optimiser of a GPU lies in the machine's own memory."""
    lora_rank: int = 0
    """r of the adapters that are trained in place of all weights; 0: all weights are trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankMemory:
    """Bytes of one rank of a learner, by what they are for."""

    states: float
    """Weights, gradients and AdamW's states."""
    reference: float
    """The frozen policy."""
    buffers: float
    """Reduction buckets and gathered layers."""
    head: float
    """The head or embedding where it is gathered, and its gradients."""
    activations: float
    """Kept for the backward pass, and on top what one layer takes, or the logits of a chunk."""
    step: float
    """Temporaries of the optimiser step."""
    runtime: float
    """What the process takes before it has a model."""
    host: float = 0.0
    """Bytes of the machine's own memory, beside a GPU: the optimiser that is offloaded. Its pages are locked."""

    @property
    def working(self) -> float:
        """What comes and goes within a step, at most."""
        return max(self.head + self.activations, self.step)

    @property
    def peak(self) -> float:
        """The most that it takes at a time."""
        return self.states + self.reference + self.buffers + self.working + self.runtime

    def parts(self) -> dict[str, float]:
        """Returns what the peak is made of."""
        named = {"states": self.states, "reference": self.reference, "buffers": self.buffers}
        working = {"head": self.head, "activations": self.activations}
        if self.step > sum(working.values()):
            working = {"optimiser step": self.step}
        return {name: size for name, size in {**named, **working, "runtime": self.runtime}.items() if size}


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineMemory:
    """Bytes of one rollout engine, by what they are for."""

    weights: float
    """The policy's."""
    kv_cache: float
    """Keys and values; 0 or less where the weights leave no room."""
    runtime: float
    """What the process takes beside them."""
    adapters: float = 0.0
    """LoRA adapters, as vLLM holds them."""
    packed: float = 0.0
    """A second copy of the weights, laid out for the kernels of a CPU."""

    @property
    def peak(self) -> float:
        """The most that it takes at a time."""
        return self.weights + self.packed + self.adapters + self.kv_cache + self.runtime

    def parts(self) -> dict[str, float]:
        """Returns what the peak is made of."""
        copies = {"packed weights": self.packed, "adapters": self.adapters}
        held = {name: size for name, size in copies.items() if size}
        return {"weights": self.weights, **held, "KV cache": self.kv_cache, "runtime": self.runtime}


def policy_rank(shape: ModelShape, training: Training, *, reference: bool) -> RankMemory:
    """Returns the memory of a rank that trains the policy.

    Args:
        shape: The policy's.
        training: How it is trained.
        reference: Whether a frozen copy stands beside it.
    """
    width, stage, adapters = training.width, training.zero_stage, training.lora_rank > 0
    frozen = width * shape.parameters / (training.ranks if stage == 3 else 1)
    head = 0.0 if adapters else shape.vocabulary * shape.hidden * (WHOLE_HEADS[stage] * width + 4)
    logits = 3 * 4 * LOGITS[training.cuda]  # in float32: themselves, their softmax, their gradient
    return _rank(shape, training, reference=frozen if reference and not adapters else 0.0, head=head, logits=logits)


def classifier_rank(shape: ModelShape, training: Training) -> RankMemory:
    """Returns the memory of a rank that trains the meta-RM. Its own head is one row, but it has an embedding."""
    embedding = shape.vocabulary * shape.hidden * WHOLE_HEADS[training.zero_stage] * training.width
    return _rank(shape, training, reference=0.0, head=embedding, logits=0.0)


def _rank(shape: ModelShape, training: Training, *, reference: float, head: float, logits: float) -> RankMemory:
    width, ranks, stage = training.width, training.ranks, training.zero_stage
    count = training.lora_rank * shape.linear or shape.parameters
    frozen = width * shape.parameters if training.lora_rank else 0.0
    gradient, adam = 4 if stage else width, 8 if width == 4 else 12
    offloaded = training.offload and training.cuda
    if offloaded:
        gradient, adam = 4 if stage == 1 else 0, 0  # at ZeRO 2 and 3 gradients are summed there too
    total = width + gradient + adam  # bytes of a parameter, of which every rank holds this many:
    whole = {0: total, 1: width + gradient, 2: width, 3: 0}[stage]
    pairs = 2 if training.cuda and stage in (1, 2) else 1  # with `overlap_comm` one fills while the other is reduced
    buckets = pairs * min(BUCKET if ranks > 1 else LONE_BUCKET, count) * width
    mine = count / ranks if stage else count  # parameters that this rank updates
    at_once = min(mine, SUB_GROUP) if stage == 3 else mine
    return RankMemory(
        states=frozen + count * (whole + (total - whole) / ranks),
        reference=reference,
        buffers=buckets + (min(GATHERED, count) * width if stage == 3 else 0.0),
        head=head,
        activations=kept_activations(shape, training) + max(layer_activations(shape, training), logits),
        step=0.0 if offloaded else 4 * at_once,  # the gradients that AdamW steps on, made flat
        runtime=(CUDA + (NCCL if ranks > 1 else 0.0)) if training.cuda else PROCESS,
        host=(12 if stage == 1 else 16) * count / ranks if offloaded else 0.0,  # weights, moments; the sums of gradients
    )


def kept_activations(shape: ModelShape, training: Training) -> float:
    """Returns the bytes that a micro-batch keeps for its backward pass: with checkpointing the input of each layer, else all.

    Of a token a layer keeps about 10 h + 4 i numbers: what goes into its norms and projections, queries, keys, values and what
    attention gives; gate, its activation, up, and their product.
    """
    numbers = shape.hidden if training.checkpointing else _layer_numbers(shape, training)
    return float(training.micro_tokens * training.width * shape.layers * numbers)


def layer_activations(shape: ModelShape, training: Training) -> float:
    """Returns the bytes that the backward pass takes in one layer: what is computed again, and the gradients of its MLP."""
    numbers = 4 * shape.intermediate + (_layer_numbers(shape, training) if training.checkpointing else 0)
    return training.micro_tokens * training.width * numbers + capped_attention(shape, training)


def _layer_numbers(shape: ModelShape, training: Training) -> int:
    """Returns the numbers of width w that a layer keeps of a token."""
    return (10 if training.width == 4 else 14) * shape.hidden + 4 * shape.intermediate


def capped_attention(shape: ModelShape, training: Training) -> float:
    """Returns the bytes of a whole attention matrix of the longest row, and what its backward pass keeps of it (16.5 bytes a
    score). Flex attention never has one: it is what a model with capped logits uses on a GPU. On CPU it is eager."""
    eager = shape.capped and not training.cuda
    return 16.5 * shape.heads * training.micro_tokens**2 if eager else 0.0


def kv_token_bytes(shape: ModelShape, width: int) -> int:
    """Returns the bytes that the KV cache takes of a token: layers x 2 x kv heads x head dim x bytes of a number."""
    return shape.layers * shape.cached * width


def shared_engine(shape: ModelShape, *, width: int, kv_cache: float, cuda: bool, lora_rank: int = 0) -> EngineMemory:
    """Returns the memory of an engine whose KV cache has a size of its own, as on CPU and on a GPU that it shares."""
    weights = width * shape.parameters
    return EngineMemory(
        weights=weights,
        packed=0.0 if cuda or width != WIDTHS["float32"] else weights,
        kv_cache=kv_cache,
        runtime=_engine_runtime(shape, width) if cuda else PROCESS,
        adapters=_engine_adapters(shape, width, lora_rank, cuda=cuda),
    )


def engine_alone(shape: ModelShape, *, width: int, gpu: float, share: float, gpus: int = 1, lora_rank: int = 0) -> EngineMemory:
    """Returns the memory of an engine that takes a share of its GPU: the KV cache is what the others leave.

    Args:
        shape: The policy's.
        width: Bytes of a weight.
        gpu: Bytes of a GPU.
        share: Of it, 0..1.
        gpus: GPUs that hold the weights together; all figures are of one of them.
        lora_rank: Of adapters; 0: none.
    """
    weights, runtime = width * shape.parameters / gpus, _engine_runtime(shape, width)
    adapters = _engine_adapters(shape, width, lora_rank, cuda=True)
    return EngineMemory(
        weights=weights, kv_cache=share * gpu - weights - adapters - runtime, runtime=runtime, adapters=adapters
    )


def _engine_adapters(shape: ModelShape, width: int, rank: int, *, cuda: bool) -> float:
    """The place that vLLM computes with, and a second copy in the machine's memory, which on CPU is the same."""
    return float(width * rank * shape.linear * (1 if cuda else 2))


def _engine_runtime(shape: ModelShape, width: int) -> float:
    """CUDA, and vLLM's largest batch on its way through a layer."""
    return CUDA + ENGINE_BATCH * width * (4 * shape.hidden + 3 * shape.intermediate)
