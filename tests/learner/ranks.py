"""What one rank does in the tests of several ranks: python -m tests.learner.ranks RANK WORLD PORT MODEL FOLDER URL.

Rank 0 writes its results to FOLDER/results.npz.
"""

import json
import math
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from buffer.streams import Address
from configs.schema import Config
from learner import batching, checkpoint, losses, meta_rm, seals
from learner.deepspeed_engine import Engine, NotFinite
from learner.generation import GreedyRequest, complete, in_order, share
from learner.grpo import GRPOLearner
from learner.meta_rm import MetaRMUpdate
from learner.parsed import parsed_completions
from learner.policy_update import PolicyUpdate
from learner.ranks import Ranks
from learner.sft import FINISHED, SFTLearner, SFTReport
from learner.supervised_update import SupervisedUpdate
from tests.learner.run_by_hand import END, Sink, config, experience
from tests.learner.sft_by_hand import examples, write
from tests.learner.test_deepspeed_engine import Sums
from tests.learner.test_deepspeed_engine import settings as of_engine

STEPS = 3
Results = dict[str, np.ndarray]


def cases(model: Path) -> dict[str, Config]:
    """Return cases with small micro-batches of unequal size: ranks hold different numbers of tokens, or only padding."""
    tiny = {"micro_tokens": 64}
    by_name = {f"ZeRO {stage}": config(model, learner=tiny | {"zero_stage": stage}) for stage in range(4)}
    by_name["one micro-batch"] = config(model, learner={"micro_tokens": 4096, "zero_stage": 2})
    by_name["gradient checkpointing, ZeRO 3"] = config(
        model, learner=tiny | {"zero_stage": 3, "gradient_checkpointing": True}, grpo={"normalise": "token"}
    )
    by_name["LoRA"] = config(model, learner=tiny | {"zero_stage": 1, "lora_rank": 4})
    return by_name


def meta_cases(model: Path) -> dict[str, Config]:
    return {f"meta-RM, ZeRO {stage}": config(model, meta_rm={"zero_stage": stage, "micro_tokens": 64}) for stage in (1, 3)}


def sft_cases(model: Path) -> dict[str, Config]:
    cold_start = {"lr": 1e-2, "warmup_steps": 2}
    return {
        f"SFT, ZeRO {stage}": config(model, learner={"zero_stage": stage, "micro_tokens": 64}, cold_start=cold_start)
        for stage in (0, 1, 2, 3)
    }


def train(settings: Config, ranks: Ranks) -> Results:
    return stepped(PolicyUpdate(settings, ranks, settings.model.path))


def stepped(update: PolicyUpdate, after: Callable[[int], None] = lambda step: None) -> Results:
    """Return the results of some steps; `after` is called after each."""
    rows = []
    for step in range(STEPS):
        loss, metrics = update.apply([experience(10 * step + number, step) for number in range(3)])
        rows.append([loss, *(metrics[name] for name in sorted(metrics))])
        after(step)
    return {"metrics": np.array(rows), "probe": np.array(update.probe().logprobs), **weights(update.engine)}


class Spoilt(PolicyUpdate):
    """Its loss is not finite in the first micro-batch of the last rank, when `bad`."""

    bad = False

    def _loss(self, batch: Any, rows: Sequence[batching.PackedRow]) -> losses.PolicyLoss:
        loss = super()._loss(batch, rows)
        spoil = self.bad and self._ranks.rank == self._ranks.world - 1
        self.bad = False
        return replace(loss, loss=loss.loss * math.nan) if spoil else loss


def train_skipping(settings: Config, ranks: Ranks) -> Results:
    """As `train`, with a batch after each step that no rank may train on."""
    update = Spoilt(settings, ranks, settings.model.path)

    def refuse(step: int) -> None:
        update.bad = True
        with pytest.raises(NotFinite):
            update.apply([experience(100 + 10 * step + number, step) for number in range(3)])

    return stepped(update, refuse)


def train_meta(settings: Config, ranks: Ranks) -> Results:
    """Return losses and logits of some steps. Accuracy and AUC are functions of the logits that jump at ties, and there is one:
    two of the completions are the end token alone behind one prompt, which rounding puts in either order."""
    update, found, logits = MetaRMUpdate(settings, ranks, settings.model.path), list[list[float]](), list[list[float]]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meta_rm, "_quality", lambda all_logits, correct, preferences: logits.append(all_logits) or {})
        for step in range(STEPS):
            metrics = update.apply(parsed_completions([experience(10 * step + number, step) for number in range(2)], {}))
            found.append([*metrics.values()])
    return {"metrics": np.array(found), "logits": np.array(logits), **weights(update.engine)}


def train_sft(settings: Config, ranks: Ranks) -> Results:
    update, heldout = SupervisedUpdate(settings, ranks, settings.model.path), examples(1, seed=100)
    rows = []
    for step in range(STEPS):
        metrics = update.apply(examples(7, seed=step))
        rows.append([update.loss(heldout), *(metrics[name] for name in sorted(metrics))])  # one rank has nothing to measure
    return {"metrics": np.array(rows), "judged": judged(settings, update, ranks), **weights(update.engine)}


def summed(zero_stage: int, ranks: Ranks) -> Results:
    """Return the norm of a gradient in bfloat16, 1 of the first rank and 2^-9 of the last, of each of three parameters."""
    sums = Engine(lambda: Sums(2, 1).bfloat16(), of_engine(zero_stage=zero_stage, dtype="bfloat16"), ranks)
    own = [factor for rank, factor in ((0, 1.0), (ranks.world - 1, 2.0**-9)) if rank == ranks.rank]
    for number, factor in enumerate(own, start=1):
        sums.backward(sums(torch.tensor(factor), torch.tensor(0.0)), last=number == len(own))
    norm = sums.step().grad_norm
    sums.close()
    return {"metrics": np.array(norm)}


def judged(settings: Config, update: SupervisedUpdate, ranks: Ranks) -> np.ndarray:
    """Return greedy completions of prompts that the ranks share, the second time with an end that the first one meets at once:
    a rank that is done must wait for the other."""
    prompts, synced = ((5, 6, 7), (8, 9), (10,)), settings.learner.zero_stage == 3 and ranks.world > 1
    end, rows = END, list[list[int]]()
    for _ in range(2):
        request = GreedyRequest(prompts=prompts, limit=6, end=end)
        own = share(prompts, ranks.rank, ranks.world)
        written = complete(update.engine.module.model, own, request, rows=1, synced=synced, device=ranks.device)
        completions = in_order([json.loads(part) for part in ranks.gather_bytes(json.dumps(written).encode())], 3)
        rows += [[*ids, *[-1] * (6 - len(ids))] for ids in completions]
        end = completions[0][0]
    assert rows[3][1:] == [-1] * 5
    return np.array(rows)


def weights(engine: Engine) -> Results:
    module: Any = engine.module
    state = {name: tensor.numpy() for name, tensor in engine.full_state(module.model).items()}
    engine.close()
    return state


def everything(model: Path, ranks: Ranks) -> Results:
    results: Results = {}

    def keep(case: str, result: Mapping[str, np.ndarray]) -> None:
        results.update({f"{case}: {name}": array for name, array in result.items()})

    for case, settings in cases(model).items():
        keep(case, train(settings, ranks))
    for stage in range(4):
        keep(f"skipping, ZeRO {stage}", train_skipping(cases(model)[f"ZeRO {stage}"], ranks))
    for case, settings in meta_cases(model).items():
        keep(case, train_meta(settings, ranks))
    for case, settings in sft_cases(model).items():
        keep(case, train_sft(settings, ranks))
    for stage in (1, 2, 3):
        keep(f"bfloat16, ZeRO {stage}", summed(stage, ranks))
    return results


def learn(rank: int, world: int, model: Path, folder: Path, url: str) -> Results:
    """Run the whole GRPO learner: nothing, then a step, a checkpoint, and the same again after a restart."""
    settings = config(model, learner={"zero_stage": 2, "checkpoint_every": 1, "ranks": world})
    arguments: dict[str, Any] = {"rank": rank, "world": world, "model_path": settings.model.path}
    arguments |= {"address": Address(url, "ranks"), "checkpoints": folder / "policy"}
    results: Results = {}
    newest: list[str] = []  # files of the newest checkpoint
    for life in range(2):
        sink, files = Sink(), sealed_files()
        learner = GRPOLearner(settings, sink=sink, **arguments)
        learner.start("127.0.0.1", meeting(folder / f"learn-{life}", rank, lambda learner=learner: learner.rendezvous()[1]))
        assert learner.version == life
        report = learner.step(20.0)
        assert report is not None
        assert report.version == life + 1
        assert learner.step(0.05) is None if life else True
        learner._publisher.wait()
        assert [weights.version for weights in sink.published] == ([life, life + 1] if rank == 0 else [])
        results[f"learner: loss {life}"] = np.array([report.loss])
        learner.save()
        share = newest[rank::world]
        assert files[: len(share)] == share, "each rank reads its share when it resumes"
        record = checkpoint.at(folder / "policy", life + 1) / checkpoint.RECORD
        if life == 0:
            newest = [Path(name).name for name in sorted(json.loads(awaited(record).read_text())["files"])]
        learner.close()
    return results


def awaited(file: Path) -> Path:
    """Return `file` once it is there: rank 0 alone knows when a checkpoint is whole."""
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} is not there"
        time.sleep(0.05)
    return file


def sealed_files() -> list[str]:
    """Return a list that grows with the names of the files that this process reads for their seals from now on."""
    names: list[str] = []
    seal = seals._seal

    def recorded(path: Path) -> seals.Seal:
        names.append(path.name)
        return seal(path)

    seals._seal = recorded
    return names


def fine_tune(rank: int, world: int, model: Path, folder: Path) -> Results:
    """Run the whole SFT learner: stopped after two steps, then until it ends by itself."""
    cold_start = {"lr": 1e-2, "batch": 8, "steps": 30, "eval_every": 2, "patience": 2}
    settings = config(model, learner={"zero_stage": 2, "ranks": world}, cold_start=cold_start)
    dataset = write(folder / f"sft-{rank}.jsonl", examples(24, seed=1))
    reports: list[SFTReport] = []
    for life, steps in enumerate((2, 30, 1)):
        learner = SFTLearner(
            settings, rank=rank, world=world, model_path=str(model), dataset=dataset, checkpoints=folder / "sft"
        )
        port = meeting(folder / f"tune-{life}", rank, lambda learner=learner: learner.rendezvous()[1])
        learner.start("127.0.0.1", port)
        assert learner.version == (reports[-1].best if reports else 0)
        reports += [report for report in (learner.step() for _ in range(steps)) if report is not None]
        learner.close()
    assert [report.version for report in reports] == list(range(1, reports[-1].best + 5))
    assert (folder / "sft" / FINISHED).exists()
    return {"learner: sft": np.array([report.loss for report in reports])}


def meeting(file: Path, rank: int, listen: Callable[[], int]) -> int:
    """Return the port where rank 0 listens; the other ranks read it from the file."""
    if rank == 0:
        draft = file.with_suffix(".draft")
        draft.write_text(str(listen()))
        draft.rename(file)
    deadline = time.monotonic() + 120
    while not file.exists():
        assert time.monotonic() < deadline, f"rank {rank} waited 120 s for rank 0 at {file.name}"
        time.sleep(0.05)
    return int(file.read_text())


def main() -> None:
    rank, world = int(sys.argv[1]), int(sys.argv[2])
    model, folder, url = Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5]
    listener = socket.create_server(("127.0.0.1", 0)) if rank == 0 else None
    port = meeting(folder / "maths", rank, lambda: listener.getsockname()[1] if listener else 0)
    ranks = Ranks(rank=rank, world=world, host="127.0.0.1", port=port, device="cpu", timeout_s=120, listener=listener)
    assert ranks.gather_bytes(b"ab" * rank) == [b"ab" * number for number in range(world)]
    assert ranks.gather_bytes(b"") == [b""] * world
    results = everything(model, ranks)
    ranks.leave()
    results |= learn(rank, world, model, folder, url)
    results |= fine_tune(rank, world, model, folder)
    if rank == 0:
        np.savez(folder / "results.npz", **results)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
