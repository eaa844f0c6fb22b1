"""Small copies of the benchmarks, in each one's own schema, with texts of our own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grm.benchmark_sets import PPE_CORRECTNESS_SETS, REALMISTAKE_TASKS
from grm.macro import REWARD_BENCH, subsets

GOOD, BAD, WORSE = "a good answer", "a bad one", "a poor one"


def reward_bench(subset: str, index: int = 0) -> dict[str, Any]:
    return {
        "prompt": f"Say hi to {subset}, {index}.",
        "chosen": GOOD,
        "chosen_model": "model-a",
        "rejected": BAD,
        "rejected_model": "model-b",
        "subset": subset,
        "id": index,
    }


def ppe_preference(winner: str, index: int = 0) -> dict[str, Any]:
    first, second = (BAD, GOOD) if winner == "model_b" else (GOOD, BAD)
    return {
        "question_id": f"q{index}",
        "model_a": "model-a",
        "model_b": "model-b",
        "winner": winner,
        "prompt": f"Which one, {index}?",
        "response_1": first,
        "response_2": second,
        "language": "English",
    }


def ppe_correctness(index: int = 0) -> dict[str, Any]:
    """Four responses, of which the second and the third are right; three pairs, one of them of two right ones."""
    answers = {f"response_{place + 1}": text for place, text in enumerate((BAD, GOOD, f"{GOOD} too", WORSE))}
    return {
        "question_id": f"q{index}",
        "prompt": f"What is {index} + 1?",
        "model_name": "model-a",
        **answers,
        "scores": [False, True, True, False],
        "sampled_conflict_pairs": [[0, 1], [2, 3], [1, 2]],
    }


def rmb(index: int, *, losers: int = 0) -> dict[str, Any]:
    shared = {
        "conversation_input": [
            {"content": f"Rephrase {index}.", "language": "English", "role": "user"},
            {"content": "Which way?", "language": "English", "role": "assistant"},
            {"content": "Politely.", "language": "English", "role": "user"},
        ],
        "category_path": "set/goal/scenario",
    }
    if losers:
        others = [{"llm_name": f"model-{i}", "answer": BAD} for i in range(losers)]
        return {**shared, "bon_uid": str(index), "bon_best": {"llm_name": "model-a", "answer": GOOD}, "loser_list": others}
    pair = {"chosen": {"llm_name": "a", "answer": GOOD, "score": 5.0}, "reject": {"llm_name": "b", "answer": BAD, "score": 2.5}}
    return {**shared, **pair, "pair_uid": str(index)}


def realmistake(label: str, *, field: str = "label") -> dict[str, Any]:
    text = GOOD if label == "no_error" else BAD
    return {"input": "Is it so?", "llm_response": text, field: label, "error_categories": [], "human_explanation": ""}


def jsonl(path: Path, *rows: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def array(path: Path, *rows: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows), encoding="utf-8")


def copies(root: Path) -> list[str]:
    """A copy of every benchmark. Returns their sources."""
    names = [subset.removeprefix("reward-bench/") for subset in subsets(REWARD_BENCH)]
    jsonl(root / "rb" / "data.jsonl", *(reward_bench(name, index) for name in names for index in range(2)))
    jsonl(root / "pref" / "data.jsonl", *(ppe_preference(w, i) for i, w in enumerate(("model_a", "model_b", "tie"))))
    for name in PPE_CORRECTNESS_SETS:
        jsonl(root / "corr" / f"PPE-{name}-Best-of-K" / "data.jsonl", ppe_correctness(0), ppe_correctness(1))
    for goal in ("Helpfulness/Rewrite", "Harmlessness"):
        array(root / "rmb" / "RMB_dataset" / "Pairwise_set" / goal / "S1.json", rmb(0), rmb(1))
        array(root / "rmb" / "RMB_dataset" / "BoN_set" / goal / "S1.json", rmb(2, losers=2), rmb(3, losers=3))
    for task in REALMISTAKE_TASKS:
        for model in ("gpt-4-0613", "Llama-2-70b-chat-hf"):
            jsonl(root / "real" / task / f"{model}.jsonl", realmistake("error"), realmistake("no_error"))
    places = {"reward-bench": "rb", "ppe-preference": "pref", "ppe-correctness": "corr", "rmb": "rmb", "realmistake": "real"}
    return [f"bench:{name}@{root / place}" for name, place in places.items()]
