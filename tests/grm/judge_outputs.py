"""What judges write, with the verdict that a careful reader would take from it: of the strict parser, and of an evaluation.

Each row: (responses, the completion, what `parse` reads, what an evaluation reads). None is no verdict. Where the strict parser
reads a verdict, an evaluation reads the same.
"""

from typing import NamedTuple

Scores = tuple[float, ...] | None
A = "Specific Criteria: accuracy 70%, brevity 30%\nAnalysis: Response 1 errs in step 2. Response 2 holds.\n"


class Output(NamedTuple):
    """One completion."""

    n: int
    text: str
    strict: Scores
    evaluated: Scores


def both(n: int, text: str, scores: Scores) -> Output:
    """Strict and lenient readers agree."""
    return Output(n, text, scores, scores)


def lenient(n: int, text: str, scores: Scores) -> Output:
    """The strict parser refuses it."""
    return Output(n, text, None, scores)


def neither(n: int, text: str) -> Output:
    return Output(n, text, None, None)


KEPT = [  # the form that the prompt asks for, as judges write it
    both(2, A + r"Scores: \boxed{3, 9}", (3, 9)),
    both(2, A + r"Scores: \boxed{3,9}", (3, 9)),
    both(2, A + "**Scores:** \\boxed{3, 9}\n", (3, 9)),
    both(2, A + "**Scores**: $\\boxed{3, 9}$.", (3, 9)),
    both(2, A + "### Scores\n\n\\boxed{3, 9}", (3, 9)),
    both(2, A + "3. Scores:\n- \\boxed{3, 9}", (3, 9)),
    both(2, A + "> Scores: `\\boxed{3, 9}`", (3, 9)),
    both(2, A + r"Scores: \[\boxed{3, 9}\]", (3, 9)),
    both(2, A + r"Scores: \\boxed\{3, 9\}", (3, 9)),
    both(2, A + r"Scores: \boxed{\text{3, 9}}", (3, 9)),
    both(2, A + "SCORES:\r\n\\boxed{3,\\ 9}\r\n", (3, 9)),
    both(2, "Analysis:\nResponse 1 says `Scores: \\boxed{10, 1}`, which is no reason.\nScores: \\boxed{3, 9}", (3, 9)),
    both(1, "Analysis: right.\nScores: \\boxed{8}", (8,)),
    both(4, "Scores: \\boxed{1, 2, 3, 4}", (1, 2, 3, 4)),
]
NO_VERDICT = [  # boxes and numbers where no judge gives a verdict
    neither(1, r"Analysis: Let me solve it: x - 1 = 0, so the answer is \boxed{1}. Now the resp"),
    neither(2, r"Analysis: the roots are \boxed{2, 3}, which"),
    neither(2, r"Analysis: the roots are \boxed{2, 3}"),
    neither(2, "Analysis: so the roots are\n\\boxed{2, 3}"),
    neither(2, "Analysis: the solution set is =\n\\boxed{2, 3}"),
    neither(1, "Analysis: x - 1 = 0, so\n\\boxed{1}"),
    neither(1, "Analysis: The response is right.\n\\boxed{1}\nNow the response says 2, so"),
    neither(2, r"A bad judge would give \boxed{9, 9}, but"),
    neither(2, r"A bad judge would give \boxed{9, 9}."),
    neither(2, "A bad judge would write:\n\\boxed{9, 9}"),
    neither(2, "A bad judge would write:\nResponse 1: 9\nResponse 2: 9"),
    neither(2, 'A bad judge would answer:\n{"Response 1": 9, "Response 2": 9}'),
    neither(2, r"Scores: a bad judge would give \boxed{9, 9}."),
    neither(2, r"Scores: it depends, say \boxed{9, 9} or \boxed{8, 9}"),
    neither(2, A + r"Scores: \boxed{3, 9"),
    neither(2, A + r"Scores: \boxed{s1, s2}"),
    neither(2, A + r"Scores: \boxed{x, x}"),
    neither(2, A + r"Scores: \boxed{}"),
    neither(2, A + "Scores:"),
    neither(2, A + "Scores: both are good"),
    neither(2, "Specific Criteria: accuracy 70, brevity 30"),
    neither(2, "1. accuracy: 7\n2. brevity: 8"),
    neither(2, "Scores: accuracy 7, brevity 8"),
    neither(2, "Scores: accuracy: 7, brevity: 8"),
    neither(2, '{"accuracy": 7, "brevity": 8}'),
    neither(2, '{"scores": {"accuracy": 7, "brevity": 8}}'),
    neither(2, '[{"criterion": "accuracy", "score": 7}, {"criterion": "brevity", "score": 8}]'),
    neither(1, "Accuracy\nScore: 7\nBrevity\nScore: 3"),
    neither(2, "Response 1: 7 errors in all\nResponse 2: 8 errors in all"),
    neither(2, "Scores: Response 1: 7, Response 2: 8, Response 3: 9"),
    neither(2, "Scores: Response 1: 7, Response 1: 8"),
    neither(2, "Scores: Response 2: 7, Response 3: 8"),
    neither(2, "Scores: 7, 8, 9"),
    neither(3, A + r"Scores: \boxed{3, 9}"),
    neither(2, A + r"Scores: \boxed{3, 11}"),
    neither(2, A + r"Scores: \boxed{0, 9}"),
    neither(2, A + r"Scores: \boxed{-1, 9}"),
    neither(2, A + r"Scores: \boxed{30\%, 90\%}"),
    neither(2, A + r"Scores: \boxed{3/5, 4/5}"),
    neither(2, A + r"Scores: \boxed{²,³}"),
    neither(2, "Response 2 is better, 7 against 8"),
    neither(2, "7 of 10 points go to the first and 8 to the second"),
    neither(1, "[7]"),
    neither(2, ""),
    neither(2, " \u200b\n"),
]
THOUGHTS = [
    both(2, "<think>\\boxed{1, 1}? No.</think>\n" + A + "Scores: \\boxed{3, 9}", (3, 9)),
    both(2, "I guess Scores:\nScores: \\boxed{1, 1}\n</think>\n\nScores: \\boxed{3, 9}", (3, 9)),
    both(2, A + "Scores: \\boxed{3, 9}\n<think>or \\boxed{1, 1}", (3, 9)),
    both(2, A + "Scores: \\boxed{3, 9}\n<think>\nScores: \\boxed{1, 1}</think>", (3, 9)),
    neither(2, "<think>\nScores: \\boxed{1, 1}"),
    neither(2, "<think>\nScores: \\boxed{1, 1}\n</think>"),
    neither(2, "Scores: \\boxed{1, 1}\n</think>\n"),
    neither(2, '<think>\n{"scores": [1, 1]}</think>\nI cannot say.'),
    lenient(2, "<think>\n[[1, 1]]</think>\n[[3, 9]]", (3, 9)),
    lenient(2, "Scores: 1, 1\n</think>\nScores: 3, 9", (3, 9)),
]
BEHIND = [  # a verdict, and more
    both(1, "Scores: \\boxed{3}\nThe right answer is \\boxed{7}.", (3,)),
    both(2, A + "Scores: \\boxed{3, 9}\nBest: \\boxed{2}", (3, 9)),
    both(2, A + "Scores: \\boxed{3, 9}\nResponse 1 quoted \\boxed{8, 8}.", (3, 9)),
    both(2, "Scores: \\boxed{1, 2}\nOn reflection:\nScores: \\boxed{3, 9}", (3, 9)),
    lenient(2, "Scores: \\boxed{3.5, 9}\nThe best is \\boxed{2}.", (3.5, 9)),
    lenient(2, "Scores: \\boxed{3.5, 9} \\boxed{2}", (3.5, 9)),
]
NUMBERS = [
    lenient(2, A + r"Scores: \boxed{7.5, 7.0}", (7.5, 7)),
    lenient(2, A + r"Scores: \boxed{7/10, 8/10}", (7, 8)),
    lenient(2, A + r"Scores: \boxed{7.5/10, 8 / 10}", (7.5, 8)),
    lenient(1, "Score: 7/10", (7,)),
    lenient(1, "Score: 7 out of 10", (7,)),
    lenient(1, "**Final Score:** 7.5", (7.5,)),
    lenient(2, "Scores: \\boxed{７，８}", (7, 8)),
    lenient(2, "Scores: ＼boxed｛７, ８｝", (7, 8)),
    lenient(2, "Scores: \\boxed{٧، ٨}", (7, 8)),
    lenient(2, "Scores: \\boxed{٧٫٥، ٨}", (7.5, 8)),
    lenient(2, "Scores: \\boxed{७, ८}", (7, 8)),
    lenient(2, "Scores: \\boxed{7、8}", (7, 8)),
    lenient(2, "Scores: \\boxed{+7, 8}", (7, 8)),
    lenient(2, "Scores: \u200b\\boxed{7,\u200f 8}", (7, 8)),
    lenient(2, "\ufeffScores: \u2067\\boxed{\u20667, 8\u2069}\u2069", (7, 8)),
]
SEPARATORS = [
    lenient(2, r"Scores: \boxed{7; 8}", (7, 8)),
    lenient(2, r"Scores: \boxed{7 and 8}", (7, 8)),
    lenient(2, r"Scores: \boxed{7 & 8}", (7, 8)),
    lenient(2, r"Scores: \boxed{7 8}", (7, 8)),
    lenient(2, r"Scores: \boxed{7, 8,}", (7, 8)),
    lenient(2, r"Scores: \boxed{7, 8.}", (7, 8)),
    lenient(2, r"Scores: \boxed{7 \quad 8}", (7, 8)),
    lenient(2, r"Scores: \boxed{7,\quad 8}", (7, 8)),
    lenient(3, r"Scores: \boxed{7, 8, and 9}", (7, 8, 9)),
]
LATEX = [
    lenient(2, r"Scores: \boxed{\left(7, 8\right)}", (7, 8)),
    lenient(2, r"Scores: \boxed{\bm{7}, \bm{8}}", (7, 8)),
    lenient(2, r"Scores: \boxed{\boldsymbol{7, 8}}", (7, 8)),
    lenient(2, r"Scores: \boxed{\text{\textbf{7, 8}}}", (7, 8)),
    lenient(2, r"Scores: \boxed{**7**, **8**}", (7, 8)),
    lenient(2, r"Scores: \boxed{$7$, $8$}", (7, 8)),
    lenient(2, "Scores: \\boxed\n{7, 8}", (7, 8)),
    lenient(2, "Scores: \boxed{7, 8}", (7, 8)),  # a JSON reader has eaten the \b
    lenient(2, r"Scores: \boxed{[[7, 8]]}", (7, 8)),
]
NAMED = [
    lenient(2, r"Scores: \boxed{s_1=7, s_2=8}", (7, 8)),
    lenient(2, r"Scores: \boxed{s_{1} = 7, s_{2} = 8}", (7, 8)),
    lenient(2, r"Scores: \boxed{s1: 7, s2: 8}", (7, 8)),
    lenient(2, r"Scores: \boxed{\text{Response 1: 7, Response 2: 8}}", (7, 8)),
    lenient(2, "Scores: Response 1: 7, Response 2: 8", (7, 8)),
    lenient(2, "Scores:\n- **Response 1**: 7/10\n- **Response 2**: 8/10\n", (7, 8)),
    lenient(2, "Scores: Response 2: 8; Response 1: 7.", (7, 8)),
    lenient(2, "Scores: Assistant A: 7, Assistant B: 8", (7, 8)),
    lenient(2, "Analysis: fine.\n\nResponse 1: 7\nResponse 2: 8", (7, 8)),
    lenient(2, "Scores: the response 1's score is 7 and response 2's score is 8.", (7, 8)),
]
BOXES = [
    lenient(2, r"Scores: \boxed{7}, \boxed{8}", (7, 8)),
    lenient(2, "Scores:\n\\boxed{7}\n\\boxed{8}", (7, 8)),
    lenient(2, r"Scores: Response 1: \boxed{7}, Response 2: \boxed{8}", (7, 8)),
    lenient(2, "Scores:\n- Response 1: $\\boxed{7}$\n- Response 2: $\\boxed{8}$", (7, 8)),
    lenient(2, "Analysis: fine.\nResponse 1: \\boxed{7}\nResponse 2: \\boxed{8}", (7, 8)),
    lenient(2, "Analysis: The second holds.\n\n\\boxed{7, 8}", (7, 8)),
    lenient(2, "Analysis: The second holds.\n\n$$\\boxed{7}, \\boxed{8}$$", (7, 8)),
    lenient(2, r"My final scores are \boxed{7, 8}.", (7, 8)),
    lenient(2, r"The scores for both responses are: \boxed{7, 8}", (7, 8)),
]
LISTS = [
    lenient(2, "[[7, 8]]", (7, 8)),
    lenient(2, "Analysis: fine.\n[[7, 8]]", (7, 8)),
    lenient(1, "Rating: [[7]]", (7,)),
    lenient(2, "Scores: [7, 8]", (7, 8)),
    lenient(2, "Scores: (7, 8)", (7, 8)),
    lenient(2, "Scores: 7, 8", (7, 8)),
    lenient(2, "Final Scores: **7 and 8**\nThe second is better.", (7, 8)),
]
JSON = [
    lenient(2, '{"scores": [7, 8]}', (7, 8)),
    lenient(2, '{"analysis": "The second holds.", "scores": [7.5, "8/10"]}', (7.5, 8)),
    lenient(2, 'Analysis: fine.\n```json\n{"Response 1": 7, "Response 2": 8}\n```', (7, 8)),
    lenient(2, "Scores:\n```json\n[7, 8]\n```\nThe second is better.", (7, 8)),
    lenient(2, 'Scores: {"response_2": {"score": 8}, "response_1": {"score": 7, "reason": "errs"}}', (7, 8)),
    lenient(2, '[{"score": 7}, {"score": 8}]', (7, 8)),
    lenient(2, '[{"id": 2, "score": 8}, {"id": 1, "score": 7}]', (7, 8)),
    lenient(2, '{"A": 7, "B": 8}', (7, 8)),
    lenient(1, '{"score": 7, "reason": "right"}', (7,)),
    lenient(2, '{"reasoning": "...",\n "final_scores": {"s1": 7, "s2": 8}}', (7, 8)),
    neither(2, '{"scores": [7, 8'),
    neither(2, '{"scores": [7, true]}'),
    neither(2, '{"scores": [7, NaN]}'),
    neither(2, '{"scores": [7, 1e400]}'),
]
LABELS = [
    lenient(2, "具体标准：准确\n分析：回答2更好。\n评分：\\boxed{７，８}", (7, 8)),
    lenient(2, "評分：回答1：7，回答2：8", (7, 8)),
    lenient(2, "分析: 第二。\nスコア：\\boxed{7、8}", (7, 8)),
    lenient(2, "Анализ: второй лучше.\nОценки: \\boxed{7, 8}", (7, 8)),
    lenient(2, "Análisis: la segunda.\nPuntuaciones: \\boxed{7, 8}", (7, 8)),
    lenient(2, "Analyse: die zweite.\nBewertung: \\boxed{7 und 8}", (7, 8)),
    lenient(2, "التحليل: الثاني أفضل.\nالدرجات: \\boxed{٧، ٨}", (7, 8)),
    lenient(2, "विश्लेषण: दूसरा।\nअंक: \\boxed{७, ८}", (7, 8)),
    lenient(2, "Final Scores (in order): \\boxed{7, 8}", (7, 8)),
    lenient(2, "## Ratings\n\\boxed{7, 8}", (7, 8)),
]
OUTPUTS = {
    f"{name}-{i}": output
    for name, outputs in {
        "kept": KEPT,
        "no-verdict": NO_VERDICT,
        "thoughts": THOUGHTS,
        "behind": BEHIND,
        "numbers": NUMBERS,
        "separators": SEPARATORS,
        "latex": LATEX,
        "named": NAMED,
        "boxes": BOXES,
        "lists": LISTS,
        "json": JSON,
        "labels": LABELS,
    }.items()
    for i, output in enumerate(outputs)
}
