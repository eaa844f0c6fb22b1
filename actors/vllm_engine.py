"""vLLM in this process, stepped by one thread; with `vllm_weights` and `vllm_probe` all that imports vllm.

    submit ─▶ commands ─▶ [ engine thread: run commands, then one decode step, then resolve what finished ] ─▶ futures

Commands run between two decode steps, so a weight pull never meets a step half done: the running requests stay, the
new weights are loaded in place, and the next step samples from them. vLLM tags every token with the version in force.
Each pull brings a probe: what the learner computes for a few tokens. The engine computes the same ones as a request, at once
if it has nothing else to do, else beside the others, and ends when its log-probs differ by more than rounding.
The prefix cache is salted with the edition under which a request was submitted: a group's samples share its prompt, and no
group that is submitted after a pull reads what older weights left there.
"""

import gc
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from actors.generator import Request
from actors.vllm_completion import completion_of
from actors.vllm_probe import Probes
from actors.vllm_weights import LiveModel, ModelUnsupported, keep_plain_weights
from buffer.messages import Completion
from buffer.weights import Edition, PublishedWeights

Result = TypeVar("Result")

# Read by vLLM at import. One process and one thread an engine: on CPU a second OpenMP thread that spins costs more
# than it gives, and the in-process executor is the one that lets weights be loaded between two steps.
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",
}
# vLLM compiles one small log-prob helper even in eager mode: seconds of start-up and a C++ compiler for nothing on CPU.
CPU_ENVIRONMENT = {"TORCH_COMPILE_DISABLE": "1"}

BATCHED_TOKENS = 4096  # of one step on CPU: a weight pull waits for a step at most


class EngineDead(RuntimeError):
    """The engine's thread ended with an error, which the message holds. The actor must be replaced."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Command:
    """Something to be done between two decode steps, and its answer."""

    function: Callable[[], Any]
    future: Future[Any]

    def run(self) -> None:
        try:
            self.future.set_result(self.function())
        except Exception as error:  # handed to the caller, which waits for it
            self.future.set_exception(error)


@dataclass(frozen=True, kw_only=True, slots=True)
class VllmSettings:
    """How an engine is built."""

    model_path: str
    """Folder or hub name of the model."""
    dtype: str
    """Of its weights: bfloat16, float16 or float32."""
    context: int
    """Tokens of a prompt and its completion at most."""
    sequences: int
    """Completions decoded at a time at most."""
    kv_cache_bytes: int
    """Size of the KV cache on CPU."""
    gpu_memory: float
    """Share of the GPU's memory that the engine may take, 0..1."""
    seed: int
    """Of the engine's own stream: another one for each replica, or all replicas draw the same samples."""
    device: str
    """cpu or cuda."""
    end_token: int | None = None
    """Ends a completion as the chat template ends a turn, beside the ends that the model's files name."""


class VllmEngine:
    """`SamplingEngine` over vLLM's v1 engine. Thread-safe: everything goes through the command queue."""

    def __init__(self, settings: VllmSettings) -> None:
        """Builds the engine, which takes a while, and starts its thread."""
        on_cpu = settings.device == "cpu"
        for name, value in (ENVIRONMENT | (CPU_ENVIRONMENT if on_cpu else {})).items():
            os.environ.setdefault(name, value)
        with _collector_paused():
            if on_cpu:
                keep_plain_weights()
            self._engine = _build(settings)
        self._model = LiveModel(self._engine, on_cpu=on_cpu)
        self._probes = Probes(self._engine, self._model, settings.dtype)
        self._settings = settings
        self._commands: queue.SimpleQueue[_Command | None] = queue.SimpleQueue()
        self._gate = threading.Lock()  # no command enters once the thread has ended: nobody would answer it
        self._waiting: dict[str, Future[tuple[Completion, ...]]] = {}
        self._edition = Edition(0, 0)
        self._issued = self._tokens = self._steps = 0
        self._failure: Exception | None = None
        self._engine.set_weight_version("0")
        self._thread = threading.Thread(target=self._loop, name="vllm-engine", daemon=True)
        self._thread.start()

    @property
    def edition(self) -> Edition:
        """The edition of the weights in force."""
        return self._edition

    @property
    def tokens(self) -> int:
        """Completion tokens finished since the start."""
        return self._tokens

    @property
    def steps(self) -> int:
        """Decode steps since the start: while it has requests and they stand still, the engine hangs."""
        return self._steps

    def submit(self, requests: Sequence[Request]) -> list[Future[tuple[Completion, ...]]]:
        """Add all requests before the next decode step: the same requests on an idle engine make the same schedule,
        hence the same samples (the determinism of eta = 0 rests on it)."""
        done: list[Future[tuple[Completion, ...]]] = [Future() for _ in requests]

        def add() -> None:
            for request, future in zip(requests, done, strict=True):
                self._add(request, future)

        self._call(add).result()
        return done

    def load(self, weights: PublishedWeights) -> float:
        """Change the weights in place between two steps. Returns the seconds that decoding stood still.

        Raises:
            ModelUnsupported: this model's weights cannot be changed in a running engine. An engine that is not idle may also
                end with it in one of the next steps.
        """

        def swap() -> float:
            started = time.perf_counter()
            idle = not self._engine.has_unfinished_requests()
            self._model.load(weights)
            self._engine.set_weight_version(str(weights.version))
            self._edition = weights.edition
            self._probes.start(weights)
            while idle and self._probes:
                self._step()
            return time.perf_counter() - started

        return self._call(swap).result()

    def close(self) -> None:
        """End the engine; harmless when repeated. Requests that are still running fail with EngineDead."""
        self._commands.put(None)
        self._thread.join(timeout=30)

    # ---- the engine's thread -------------------------------------------------------------------------------------

    def _call(self, function: Callable[[], Result]) -> Future[Result]:
        future: Future[Result] = Future()
        with self._gate:
            if self._failure is not None:
                raise _passed_on(self._failure, "the vLLM engine has ended") from self._failure
            self._commands.put(_Command(function=function, future=future))
        return future

    def _loop(self) -> None:
        try:
            while self._run_commands():
                if self._engine.has_unfinished_requests():
                    self._step()
            self._end(EngineDead("it was closed"))
        except Exception as error:  # ends this thread; what waits gets it, and later calls too
            self._end(error)

    def _step(self) -> None:
        for output in self._engine.step():
            if output.finished:
                self._finish(output)
        self._steps += 1

    def _run_commands(self) -> bool:
        """Run what is queued; sleep in the queue while there is nothing to decode. Returns False when the thread is to end."""
        while True:
            try:
                command = self._commands.get(block=not self._engine.has_unfinished_requests())
            except queue.Empty:
                return True
            if command is None:
                return False
            command.run()

    def _end(self, failure: Exception) -> None:
        with self._gate:
            self._failure = failure
            for future in self._waiting.values():
                future.set_exception(_passed_on(failure, "the vLLM engine ended in the middle of a request"))
            self._waiting.clear()
            while not self._commands.empty():
                if (command := self._commands.get()) is not None:
                    command.future.set_exception(_passed_on(failure, "the vLLM engine has ended"))

    def _add(self, request: Request, future: Future[tuple[Completion, ...]]) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        self._issued += 1
        params = SamplingParams(
            n=request.samples,
            temperature=request.temperature,
            max_tokens=request.max_new_tokens,
            seed=request.seed,
            logprobs=request.alternatives,
            stop_token_ids=[] if self._settings.end_token is None else [self._settings.end_token],
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        prompt = {"prompt_token_ids": list(request.token_ids), "cache_salt": "{}.{}".format(*self._edition)}
        self._engine.add_request(str(self._issued), prompt, params)
        self._waiting[str(self._issued)] = future

    def _finish(self, output: Any) -> None:
        if self._probes.take(output, self._edition):
            return
        completions = tuple(completion_of(c) for c in sorted(output.outputs, key=lambda c: c.index))
        self._tokens += sum(len(c.token_ids) for c in completions)
        self._waiting.pop(output.request_id).set_result(completions)


def _passed_on(failure: Exception, what: str) -> Exception:
    """Returns what a caller gets when the engine's thread has ended: another try with this model would end no better."""
    return ModelUnsupported(str(failure)) if isinstance(failure, ModelUnsupported) else EngineDead(f"{what}: {failure!r}")


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause Python's garbage collector. The import of vLLM leaves a great many objects that stay, and looking through
    them again and again is a quarter of an engine's start."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


def _build(settings: VllmSettings) -> Any:
    """Returns the LLMEngine."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    gc.freeze()  # what was imported stays: vLLM collects by hand while it builds, and need not look through it
    arguments: dict[str, Any] = {
        "model": settings.model_path,
        "dtype": settings.dtype,
        "max_model_len": settings.context,
        "max_num_seqs": settings.sequences,
        "seed": settings.seed,
        "distributed_executor_backend": "uni",
        # the log-prob of the distribution that was sampled, at its temperature: the mu of the importance weight
        "logprobs_mode": "processed_logprobs",
        "disable_log_stats": True,
        "enable_prefix_caching": True,
    }
    if settings.device == "cpu":
        arguments |= {"enforce_eager": True, "block_size": 32, "kv_cache_memory_bytes": settings.kv_cache_bytes}
        # vLLM 0.32 on CPU dies when the prefill of a seeded request is split over two steps.
        arguments |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(BATCHED_TOKENS, settings.context)}
    else:
        arguments |= {"gpu_memory_utilization": settings.gpu_memory}
    return LLMEngine.from_engine_args(EngineArgs(**arguments))
