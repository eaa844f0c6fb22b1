"""vLLM in this process, built and stepped by one thread; with the other `vllm_*` files all that imports vllm.

    submit ─▶ commands ─▶ [ engine thread: run commands, then one decode step, then resolve what finished ] ─▶ futures

Commands run between two decode steps. On GPUs vLLM has a batch under way even then (asynchronous scheduling), and it tags a
token with the version in force when the token is read. So a pull pauses vLLM's scheduler and takes the steps that are under
way to their end, as tokens of the old version: the running requests stay, the new weights are loaded in place, and the next
step samples from them.
Each pull brings a probe: what the learner computes for a few tokens. The engine computes the same ones as a request, at once
if it has nothing else to do, else beside the others, and ends when its log-probs differ by more than rounding.
The prefix cache is salted with the edition under which a request was submitted: a group's samples share its prompt, and no
group that is submitted after a pull reads what older weights left there.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from actors.generator import Request
from actors.vllm_adapters import LiveAdapters
from actors.vllm_build import VllmSettings, build_engine
from actors.vllm_completion import completion_of, completion_with_choices_of
from actors.vllm_probe import Probes
from actors.vllm_shards import ShardedModel
from actors.vllm_weights import LiveModel, ModelUnsupported
from buffer.messages import Completion
from buffer.weights import Edition, PublishedWeights

__all__ = ["Aborted", "EngineDead", "VllmEngine", "VllmSettings"]

Result = TypeVar("Result")


class EngineDead(RuntimeError):
    """The engine's thread ended with an error, which the message holds. The actor must be replaced."""


class Aborted(RuntimeError):
    """A request was ended before it was complete: `VllmEngine.abort`."""


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


class VllmEngine:
    """`SamplingEngine` over vLLM's v1 engine. Thread-safe: everything goes through the command queue."""

    def __init__(self, settings: VllmSettings) -> None:
        """Starts the engine's thread and waits until it has built the engine, which takes a while. Raises what vLLM raises."""
        self._settings = settings
        self._commands: queue.SimpleQueue[_Command | None] = queue.SimpleQueue()
        self._gate = threading.Lock()  # no command enters once the thread has ended: nobody would answer it
        self._waiting: dict[str, tuple[Request, Future[tuple[Completion, ...]]]] = {}
        self._edition = Edition(0, 0)
        self._issued = self._tokens = self._steps = 0
        self._failure: Exception | None = None
        built: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(built,), name="vllm-engine", daemon=True)
        self._thread.start()
        built.result()

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

    @property
    def waiting(self) -> int:
        """Completions that were submitted and have no place in a step yet, or have lost it."""
        return int(self._core.scheduler.get_request_counts()[1])

    def submit(self, requests: Sequence[Request]) -> list[Future[tuple[Completion, ...]]]:
        """Add all requests before the next decode step: the same requests on an idle engine make the same schedule,
        hence the same samples (the determinism of eta = 0 rests on it)."""
        done: list[Future[tuple[Completion, ...]]] = [Future() for _ in requests]

        def add() -> None:
            for request, future in zip(requests, done, strict=True):
                future.set_running_or_notify_cancel()  # a caller that cancels it must not end this thread: see `abort`
                self._add(request, future)

        self._call(add).result()
        return done

    def abort(self, futures: Sequence[Future[tuple[Completion, ...]]]) -> None:
        """End requests whose completions nobody waits for any more, before the next decode step. Their futures fail with
        `Aborted`; one that is done stays as it is."""

        def end() -> None:
            names = [name for name, (_, future) in self._waiting.items() if future in wanted]
            self._engine.abort_request(names)
            for name in names:
                self._waiting.pop(name)[1].set_exception(Aborted("nobody waited for it any more"))

        wanted = set(futures)
        self._call(end).result()

    def load(self, weights: PublishedWeights) -> float:
        """Change the weights in place between two steps. Returns the seconds that decoding stood still.

        Raises:
            ModelUnsupported: this model's weights cannot be changed in a running engine. An engine that is not idle may also
                end with it in one of the next steps.
        """

        def swap() -> float:
            with self._nothing_under_way():
                started = time.perf_counter()
                self._model.load(weights)
                self._engine.set_weight_version(str(weights.version))
                self._edition = weights.edition
            idle = not self._engine.has_unfinished_requests()
            self._probes.start(weights)
            while idle and self._probes:
                self._step()
            return time.perf_counter() - started

        with self._model.staged(weights):
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

    def _run(self, built: Future[None]) -> None:
        """The thread: it builds the engine and steps it, as vLLM's streams belong to a thread."""
        try:
            self._build()
        except BaseException as error:  # whatever it is, the constructor raises it
            built.set_exception(error)
        else:
            built.set_result(None)
            self._loop()

    def _build(self) -> None:
        self._engine = build_engine(self._settings)
        self._core = self._engine.engine_core.engine_core
        self._model = live_weights(self._engine, self._settings)
        self._probes = Probes(self._engine, self._model, self._settings.dtype)
        self._decode = partial(
            self._engine.get_tokenizer().decode, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        self._engine.set_weight_version("0")

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

    @contextmanager
    def _nothing_under_way(self) -> Iterator[None]:
        """Pause vLLM's scheduler, finish the batches that it has given to the device, and go on with all requests behind the
        block. (Without asynchronous scheduling there is no queue of batches, and nothing to finish.)"""
        self._core.pause_scheduler("keep", clear_cache=False)
        try:
            while self._core.batch_queue:
                self._step()
            yield
        finally:
            self._core.resume_scheduler()

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
            for _, future in self._waiting.values():
                future.set_exception(_passed_on(failure, "the vLLM engine ended in the middle of a request"))
            self._waiting.clear()
            while not self._commands.empty():
                if (command := self._commands.get()) is not None:
                    command.future.set_exception(_passed_on(failure, "the vLLM engine has ended"))
        if self._settings.processes > 1:
            self._engine.model_executor.shutdown()  # else its processes end with this one

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
            # Else vLLM decodes each token, and makes an object of each log-prob: `completion_of` needs neither.
            flat_logprobs=not request.alternatives,
            detokenize=bool(request.alternatives),
            stop_token_ids=[] if self._settings.end_token is None else [self._settings.end_token],
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        prompt = {"prompt_token_ids": list(request.token_ids), "cache_salt": "{}.{}".format(*self._edition)}
        self._engine.add_request(str(self._issued), prompt, params, lora_request=self._model.lora_request)
        self._waiting[str(self._issued)] = request, future

    def _finish(self, output: Any) -> None:
        if self._probes.take(output, self._edition):
            return
        request, future = self._waiting.pop(output.request_id)
        read = completion_with_choices_of if request.alternatives else self._plain(request)
        completions = tuple(read(c) for c in sorted(output.outputs, key=lambda c: c.index))
        self._tokens += sum(len(c.token_ids) for c in completions)
        future.set_result(completions)

    def _plain(self, request: Request) -> Callable[[Any], Completion]:
        return partial(completion_of, prompt=request.token_ids, decode=self._decode)


def live_weights(engine: Any, settings: VllmSettings) -> LiveModel | ShardedModel | LiveAdapters:
    """Returns what changes with each pull: the whole model, here or in other processes, or adapters beside it."""
    if settings.adapters is not None:
        return LiveAdapters(engine, settings.adapters)
    if settings.processes > 1:
        return ShardedModel(engine)
    model = engine.model_executor.driver_worker.worker.model_runner.get_model()
    return LiveModel(model, engine.vllm_config, on_cpu=settings.device == "cpu")


def _passed_on(failure: Exception, what: str) -> Exception:
    """Returns what a caller gets when the engine's thread has ended: another try with this model would end no better."""
    return ModelUnsupported(str(failure)) if isinstance(failure, ModelUnsupported) else EngineDead(f"{what}: {failure!r}")
