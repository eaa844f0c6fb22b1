r"""The response and the turns in texts decoded from token ids with their special tokens, as OpenRLHF sends them (pure).

    prompts: <|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n           ─▶ turns (user, Q)
    query:   <|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>  ─▶ A

The prompt is no exact prefix of the query where the tokenizer wrote a BOS, or where the prompt was too long and cut on the
left. A response is text of others. Nothing in it moves the place where it begins: that is found from the prompt alone.
"""

import re

SHORTEST_OVERLAP = 32  # characters of a prompt that was cut on the left
MOST_TRIES = 1000  # places at which such a prompt may begin
LONGEST_TAIL = 128  # characters of a special token and the blanks behind it

_BOS = re.compile(r"<s>|<bos>|<\|(?:begin_of_text|startoftext|endoftext)\|>|<\uff5cbegin\u2581of\u2581sentence\uff5c>")
_ONE_TOKEN = re.compile(
    r"<\|[^<>|\s]{1,48}\|>|<\uff5c[^<>\s]{1,48}\uff5c>|</?s>|<(?:bos|eos|pad|end_of_turn|start_of_turn)>|<turn\|>|\[PAD\]"
)
_MARKERS = (
    "<|im_start|>assistant\n",
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "<start_of_turn>model\n",
    "<|turn>model\n",
    "<|assistant|>",
    "<\uff5cAssistant\uff5c>",
    "[/INST]",
)
_FRAMES = (  # head of a turn, between its role and its content, its end
    ("<|im_start|>", "\n", "<|im_end|>"),
    ("<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>"),
    ("<start_of_turn>", "\n", "<end_of_turn>"),
)


def response_of(query: str, prompt: str) -> str | None:
    """Returns the response behind the prompt in a query, without the special tokens that end it; None where nobody can tell."""
    for whole, begin in ((query, prompt), (_without_bos(query), _without_bos(prompt))):
        if whole.startswith(begin):
            return without_end(whole[len(begin) :])
    begins = _begin_behind_cut(_without_bos(query), prompt)
    if begins is not None:
        return without_end(_without_bos(query)[begins:])
    for marker in _MARKERS:
        # As many as in the prompt: with more, one of them stands in the response, and nobody knows which.
        if 0 < prompt.count(marker) == query.count(marker):
            return without_end(query.rpartition(marker)[2])
    return None


def turns_of(prompt: str) -> list[tuple[str, str]] | None:
    """Returns the (role, content) of a templated prompt without its open turn; None where its template is not known."""
    text = _without_bos(prompt).strip()
    for head, between, end in _FRAMES:
        if not text.startswith(head):
            continue
        *whole, last = text.split(head)[1:]
        turns = [_turn(part, between, end) for part in whole]
        if whole and last.rstrip() in (f"{role}{between}".rstrip() for role in ("assistant", "model")) and all(turns):
            return [turn for turn in turns if turn]
    return None


def without_end(text: str) -> str:
    """Returns a response without the special tokens behind its end. Text that ends with none of them stays as it is."""
    end = len(text)
    while True:
        tail = text[max(0, end - LONGEST_TAIL) : end]
        bare = tail.rstrip()
        start = max(bare.rfind("<"), bare.rfind("["))
        if start < 0 or not _ONE_TOKEN.fullmatch(bare, start):
            return text[:end]
        end -= len(tail) - start


def _turn(part: str, between: str, end: str) -> tuple[str, str] | None:
    role, found, content = part.partition(between)
    body, ended, rest = content.rpartition(end)
    if not found or not ended or rest.strip() or not re.fullmatch(r"\w{1,32}", role.strip()):
        return None
    return ("assistant" if role.strip() == "model" else role.strip()), body


def _without_bos(text: str) -> str:
    while found := _BOS.match(text):
        text = text[found.end() :]
    return text


def _begin_behind_cut(query: str, prompt: str) -> int | None:
    """Returns the length of the longest end of the prompt that the query begins with; None below SHORTEST_OVERLAP."""
    probe, start = query[:SHORTEST_OVERLAP], -1
    if len(probe) < SHORTEST_OVERLAP:
        return None
    for _ in range(MOST_TRIES):
        start = prompt.find(probe, start + 1)
        if start < 0:
            return None
        length = len(prompt) - start
        # The end first: of a text that repeats itself, a thousand whole comparisons would take seconds.
        if query.startswith(prompt[-SHORTEST_OVERLAP:], length - SHORTEST_OVERLAP) and query.startswith(prompt[start:]):
            return length
    return None
