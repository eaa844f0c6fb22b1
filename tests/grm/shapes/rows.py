"""A row of each shape in which people keep preferences, with texts of our own: ASK is the query, GOOD the better answer."""

import json
from typing import Any

ASK, GOOD, BAD, ALSO = "Which planet is the largest one?", "Jupiter, by far.", "It may be Mars.", "Jupiter is it."
SYSTEM = "Speak like a pilot."


def user(text: str = ASK) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def chat(text: str) -> list[dict[str, Any]]:
    return [user(), said(text)]


FUNCTION = {"name": "sizes", "arguments": '{"of": "planets"}'}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": FUNCTION}]}
TOOL = {"role": "tool", "content": "143 Mm"}
WITH_SYSTEM = f"System: {SYSTEM}\n\nUser: {ASK}"

# {number and name in shared/shapes: (row, query)}: the best of its two responses is GOOD
PAIRS: dict[str, tuple[dict[str, Any], str]] = {
    "01 prompt chosen rejected": ({"prompt": ASK, "chosen": GOOD, "rejected": BAD}, ASK),
    "02 TRL standard implicit, HH-RLHF": (
        {"chosen": f"\n\nHuman: {ASK}\n\nAssistant: {GOOD}", "rejected": f"\n\nHuman: {ASK}\n\nAssistant: {BAD}"},
        ASK,
    ),
    "03 TRL conversational explicit": ({"prompt": [user()], "chosen": [said(GOOD)], "rejected": [said(BAD)]}, ASK),
    "03 TRL conversational explicit with calls": (
        {"prompt": [user()], "chosen": [CALL, TOOL, said(GOOD)], "rejected": [CALL, TOOL, said(BAD)]},
        f'User: {ASK}\n\nAssistant: [tool call] sizes({{"of": "planets"}})\n\nTool: 143 Mm',
    ),
    "04 TRL conversational implicit": ({"chosen": chat(GOOD), "rejected": chat(BAD), "score_chosen": 9.0}, ASK),
    "05 ultrafeedback_binarized": (
        {"prompt": ASK, "prompt_id": "7", "chosen": chat(GOOD), "rejected": chat(BAD), "messages": chat(GOOD)},
        ASK,
    ),
    "09 JudgeBench": ({"pair_id": "7", "question": ASK, "response_A": BAD, "response_B": GOOD, "label": "B>A"}, ASK),
    "10 question, two responses, A>B": ({"question": ASK, "response_1": GOOD, "response_2": BAD, "label": "A>B"}, ASK),
    "11 AlpacaEval": ({"instruction": ASK, "output_1": BAD, "output_2": GOOD, "preference": 1.9}, ASK),
    "11 PandaLM": (
        {"instruction": "Answer.", "input": ASK, "response1": BAD, "response2": GOOD}
        | {"label_0": "2", "label_1": "1", "label_2": "2"},
        f"Answer.\n\n{ASK}",
    ),
    "11 PandaLM training": (
        {
            "inputs": {"instruction": ASK, "input": "", "response1": GOOD, "response2": BAD},
            "outputs": {"evaluation_result": "1", "evaluation_reason": GOOD, "reference_response": GOOD},
        },
        ASK,
    ),
    "LLMBar": ({"input": ASK, "output_1": BAD, "output_2": GOOD, "label": 2}, ASK),
    "auto-j": ({"scenario": "asking", "label": 1, "prompt": ASK, "response 1": BAD, "response 2": GOOD}, ASK),
    "12 HelpSteer2": ({"split": "train", "prompt": ASK, "response_1": BAD, "response_2": GOOD, "preference_strength": 2}, ASK),
    "13 HelpSteer3": (
        {"domain": "stem", "context": [user()], "response1": GOOD, "response2": BAD, "overall_preference": -1},
        ASK,
    ),
    "14 SafeRLHF": (
        {"prompt": ASK, "response_0": BAD, "response_1": GOOD, "better_response_id": 1, "safer_response_id": 0},
        ASK,
    ),
    "15 LLaMA-Factory sharegpt": (
        {
            "conversations": [{"from": "human", "value": ASK}],
            "chosen": {"from": "gpt", "value": GOOD},
            "rejected": {"from": "gpt", "value": BAD},
        },
        ASK,
    ),
    "16 LLaMA-Factory alpaca": ({"instruction": "Answer.", "input": ASK, "chosen": GOOD, "rejected": BAD}, f"Answer.\n\n{ASK}"),
    "16 prompt and input": ({"prompt": "Answer.", "input": ASK, "chosen": GOOD, "rejected": BAD}, f"Answer.\n\n{ASK}"),
    "16 question and input": (
        {"question": "Answer.", "input": ASK, "responses": [GOOD, BAD], "preferred": 0},
        f"Answer.\n\n{ASK}",
    ),
    "16 input that ends the prompt": (
        {"prompt": f"Answer: {ASK}", "input": ASK, "chosen": GOOD, "rejected": BAD},
        f"Answer: {ASK}",
    ),
    "16 LLaMA-Factory history": (
        {"instruction": ASK, "input": "", "history": [["Hi", "Yes?"]], "chosen": GOOD, "rejected": BAD},
        f"User: Hi\n\nAssistant: Yes?\n\nUser: {ASK}",
    ),
    "17 ms-swift": ({"messages": chat(GOOD), "rejected_response": BAD}, ASK),
    "17 ms-swift with messages": ({"messages": chat(GOOD), "rejected_messages": chat(BAD)}, ASK),
    "18 OpenRLHF": ({"chosen": chat(GOOD), "rejected": chat(BAD)}, ASK),
    "19 NeMo-RL": (
        {
            "context": [user()],
            "completions": [{"rank": 1, "completion": [said(BAD)]}, {"rank": 0, "completion": [said(GOOD)]}],
        },
        ASK,
    ),
    "20 system messages": (
        {"messages": [{"role": "system", "content": SYSTEM}, user()], "chosen": GOOD, "rejected": BAD},
        WITH_SYSTEM,
    ),
    "21 system field": ({"system": SYSTEM, "prompt": ASK, "chosen": GOOD, "rejected": BAD}, WITH_SYSTEM),
    "21 system_prompt": ({"system_prompt": SYSTEM, "prompt": ASK, "chosen": GOOD, "rejected": BAD}, WITH_SYSTEM),
    "21 system field beside conversations": ({"system": SYSTEM, "chosen": chat(GOOD), "rejected": chat(BAD)}, WITH_SYSTEM),
    "22 Orca DPO": ({"system": SYSTEM, "question": ASK, "chosen": GOOD, "rejected": BAD}, WITH_SYSTEM),
    "23 multi-turn": (
        {"messages": [user("Hi"), said("Yes?"), user()], "responses": [BAD, GOOD], "preferred": 1},
        f"User: Hi\n\nAssistant: Yes?\n\nUser: {ASK}",
    ),
    "24 tools": (
        {"messages": [user(), CALL, TOOL], "chosen": GOOD, "rejected": BAD},
        f'User: {ASK}\n\nAssistant: [tool call] sizes({{"of": "planets"}})\n\nTool: 143 Mm',
    ),
    "24 a function call": (
        {"messages": [user(), {"role": "assistant", "content": None, "function_call": FUNCTION}, TOOL]}
        | {"chosen": GOOD, "rejected": BAD},
        f'User: {ASK}\n\nAssistant: [tool call] sizes({{"of": "planets"}})\n\nTool: 143 Mm',
    ),
    "25 content parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ASK}]}], "chosen": GOOD, "rejected": BAD},
        ASK,
    ),
    "26 responses as messages": ({"prompt": ASK, "responses": [said(BAD), said(GOOD)], "preferred": 1}, ASK),
    "27 Nectar": (
        {
            "prompt": f"\n\nHuman: {ASK}\n\nAssistant: ",
            "answers": [{"answer": BAD, "rank": 2.0}, {"answer": GOOD, "rank": 1.0}],
        },
        ASK,
    ),
    "28 scores": ({"prompt": ASK, "responses": [BAD, GOOD], "scores": [2, 5]}, ASK),
    "31 preferred as a letter": ({"prompt": ASK, "responses": [BAD, GOOD], "preferred": "B"}, ASK),
    "32 preferred as text": ({"prompt": ASK, "responses": [BAD, GOOD], "preferred": "1"}, ASK),
    "34 preferred as a float": ({"prompt": ASK, "responses": [BAD, GOOD], "preferred": 1.0}, ASK),
    "35 scores as texts": ({"prompt": ASK, "responses": [BAD, GOOD], "scores": ["9.5", "10"]}, ASK),
    "38 scores as booleans": ({"prompt": ASK, "responses": [BAD, GOOD], "scores": [False, True]}, ASK),
    "43 subset null": ({"prompt": ASK, "chosen": GOOD, "rejected": BAD, "subset": None}, ASK),
    "44 subset as a number": ({"prompt": ASK, "chosen": GOOD, "rejected": BAD, "subset": 3}, ASK),
    "47 id as a float": ({"id": 7.0, "prompt": ASK, "chosen": GOOD, "rejected": BAD}, ASK),
    "52 a union with nulls": (
        {"prompt": ASK, "chosen": GOOD, "rejected": BAD} | dict.fromkeys(("responses", "scores", "preferred", "messages")),
        ASK,
    ),
    "53 a union the other way": (
        {"prompt": ASK, "chosen": None, "rejected": None, "responses": [BAD, GOOD], "scores": [0, 1]},
        ASK,
    ),
    "54 scores null beside preferred": ({"prompt": ASK, "responses": [BAD, GOOD], "scores": None, "preferred": 1}, ASK),
    "60 capitals": ({"Prompt": ASK, "Chosen": GOOD, "Rejected": BAD}, ASK),
    "61 Arena": (
        {"question_id": "7", "winner": "model_b", "conversation_a": chat(BAD), "conversation_b": chat(GOOD), "turn": 1},
        ASK,
    ),
    "62 Arena csv": (
        {"prompt": json.dumps([ASK]), "response_a": json.dumps([BAD]), "response_b": json.dumps([GOOD])}
        | {"winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0},
        ASK,
    ),
    "64 more fields": (
        {"prompt": ASK, "chosen": GOOD, "rejected": BAD, "meta": {"a": [1, {"b": None}]}, "embedding": [0.5] * 9},
        ASK,
    ),
    "66 one system message": (
        {"messages": [{"role": "system", "content": SYSTEM}], "chosen": GOOD, "rejected": BAD},
        SYSTEM,
    ),
    "68 scores that are nearly equal": ({"prompt": ASK, "responses": [BAD, GOOD], "scores": [4.0, 4.0000001]}, ASK),
    "69 prompt_id is no id": ({"prompt_id": "a", "prompt": ASK, "chosen": GOOD, "rejected": BAD}, ASK),
    "95 NaN in another field": ({"prompt": ASK, "chosen": GOOD, "meta": float("nan"), "rejected": BAD}, ASK),
    "no image": ({"prompt": ASK, "chosen": GOOD, "rejected": BAD, "image": float("nan"), "images": [], "video": False}, ASK),
    "UltraFeedback": (
        {
            "source": "x",
            "instruction": ASK,
            "completions": [{"response": BAD, "overall_score": 3.0}, {"response": GOOD, "overall_score": 8.0}],
        },
        ASK,
    ),
    "RMB": ({"conversation_input": [user()], "chosen": {"answer": GOOD}, "reject": {"answer": BAD}}, ASK),
    "RMB best of N": ({"conversation_input": [user()], "bon_best": {"answer": GOOD}, "loser_list": [{"answer": BAD}]}, ASK),
    "two labels that agree": (
        {"prompt": ASK, "response_a": BAD, "response_b": GOOD, "winner": "model_b", "label": "B>A", "verdict": "unsure"},
        ASK,
    ),
    "a label of another kind beside a winner": (
        {"prompt": ASK, "response_a": BAD, "response_b": GOOD, "label": "astronomy", "winner": "model_b"},
        ASK,
    ),
    "PPE": ({"prompt": ASK, "response_1": BAD, "response_2": GOOD, "winner": "model_b"}, ASK),
}

# Single responses: (row, label)
SINGLES: dict[str, tuple[dict[str, Any], int]] = {
    "39 single with a boolean": ({"prompt": ASK, "responses": [GOOD], "scores": [True]}, 1),
    "40 KTO": ({"prompt": ASK, "completion": GOOD, "label": False}, 0),
    "40 KTO as messages": ({"prompt": [user()], "completion": [said(GOOD)], "label": True}, 1),
    "40 KTO of ms-swift": ({"messages": chat(GOOD), "label": True}, 1),
    "58 a score that is no list": ({"prompt": ASK, "responses": [GOOD], "scores": 1}, 1),
    "59 singular names": ({"prompt": ASK, "response": GOOD, "score": 0}, 0),
    "OpenMathInstruct": ({"question": ASK, "generated_solution": GOOD, "is_correct": True, "dataset": "math"}, 1),
    "ReaLMistake": ({"input": ASK, "llm_response": GOOD, "error_label": "error"}, 0),
}

# Rows of several preferences, and of shapes that stand above in another form: the query of all of them is ASK
SEVERAL: dict[str, dict[str, Any]] = {
    "07 RewardBench 2": {"prompt": ASK, "chosen": [GOOD], "rejected": [BAD, "No.", "42"], "subset": "Math"},
    "07 RewardBench 2, Ties": {"prompt": ASK, "chosen": [GOOD, ALSO], "rejected": [BAD, "No."], "subset": "Ties"},
    "08 RM-Bench": {
        "prompt": ASK,
        "chosen": [f"{GOOD} {i}" for i in range(3)],
        "rejected": [f"{BAD} {i}" for i in range(3)],
        "domain": "chat",
    },
    "single response and label": {"prompt": ASK, "response": GOOD, "label": True},
}
