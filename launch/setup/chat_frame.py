r"""What a model's chat template writes around a message.

    chat template ─▶ rendered with known messages, in a child process ─▶ ChatFrame

    <|im_start|>user\n  MESSAGE  <|im_end|>\n<|im_start|>assistant\n  ANSWER  <|im_end|>\n
    └──── before ────┘           └───────────── after ────────────┘          └── end ──┘

A template is a program of the model folder. It runs here, once, and never on judged text: no text can steer the format. It runs
in a child process with limits of its own, as only a process can be ended in the middle of one long operation (`9 ** (9 ** 9)`),
where no signal handler and no other thread gets its turn. The child is forked: it has the tokenizer already, and to load
transformers again would take more than a second. It runs nothing but the template, so it waits for no lock of another thread.
"""

import json
import multiprocessing
import os
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from configs.load import ConfigError

Message = Mapping[str, object]
Render = Callable[[Sequence[Message], bool], str]

# Of the child. The limit is on CPU time, so that a busy machine ends no template that is sound.
CPU_S, WAIT_S = 5, 120.0
MEMORY = 1 << 30  # bytes above what the process has already
LONGEST = 1 << 20  # characters of one rendered chat
QUOTED = 300  # characters of a template's own error
PLAIN = "0a1b2c Is it so? 3d4e5f"
# What prompts hold: several lines, markup of our own and of others, blank ends.
RICH = (
    " \n6g7h8i\n\n[The Begin of Response 1]\n\\boxed{8, 2} {{ x }} {% y %} <b>&amp;</b> \"a\" 'b'\n\t5 < 6 für 雪 🙂\n[] 9j\n "
)
ANSWER = "9z8y7x It is. 6w5v4u"
AGAIN = "3t2s1r Is it still? 0q9p8o"
TRIMS: Sequence[Callable[[str], str]] = (str, str.strip, str.lstrip, str.rstrip)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatFrame:
    """A chat of one user message, up to where the completion begins."""

    before: str
    """Text before the message."""
    after: str
    """Text behind it: the end of the user's turn, and the head of the assistant's."""
    between: str | None
    """Text between the message and its answer in a chat that holds both; None when the template takes no answer."""
    earlier: str
    """The same where another message follows: some templates leave an earlier thought out."""
    trim: Callable[[str], str]
    """What the template does to the message's blank ends."""
    end: str
    """Text behind the assistant's answer; "" when the template takes no answer."""
    follows: str
    """Text between that answer and a next user message; "" when the template takes none."""
    trim_answer: Callable[[str], str]
    """What the template does to the answer's blank ends."""

    def around(self, message: str) -> str:
        """Returns the text of the chat."""
        return f"{self.before}{self.trim(message)}{self.after}"

    def whole(self, turns: Sequence[str]) -> str:
        """Returns the text of a whole chat.

        Args:
            turns: Message, answer, message, answer, and so on: an even number.
        """
        *before, (message, answer) = zip(turns[::2], turns[1::2], strict=True)
        said = [f"{self.trim(asked)}{self.earlier}{self.trim_answer(answered)}" for asked, answered in before]
        said.append(f"{self.trim(message)}{self.between or ''}{self.trim_answer(answer)}")
        return f"{self.before}{self.follows.join(said)}{self.end}"


class _Unusable(ValueError):
    """Why a template cannot be used with one form of content."""


def chat_frame(render: Render) -> ChatFrame:
    """Returns the frame of a chat template: with a message as text, or else as a list of parts.

    Args:
        render: Renders messages with the template; the flag is `add_generation_prompt`.

    Raises:
        ConfigError: No prompt can be made with the template; the message says why.
    """
    as_text, as_parts = _chats(str), _chats(lambda text: [{"type": "text", "text": text}])
    rendered = _rendered(render, [*as_text, *as_parts])
    reasons = []
    for of_form in (rendered[: len(as_text)], rendered[len(as_text) :]):
        try:
            return _frame(*of_form)
        except _Unusable as why:
            reasons.append(str(why))
    raise _unusable(f"{reasons[0]}; with the message as a list of parts {reasons[1]}")


def _chats(form: Callable[[str], object]) -> list[tuple[Sequence[Message], bool]]:
    """Returns the chats that `_frame` looks at, their content in one form."""
    plain, rich = ([{"role": "user", "content": form(text)}] for text in (PLAIN, RICH))
    answered = [*plain, {"role": "assistant", "content": form(ANSWER)}]
    again = [*answered, {"role": "user", "content": form(AGAIN)}]
    richly = [*plain, {"role": "assistant", "content": form(RICH)}]
    return [(plain, True), (rich, True), (plain, False), (answered, False), (again, False), (richly, False)]


def _frame(
    plain: Mapping[str, str],
    rich: Mapping[str, str],
    bare: Mapping[str, str],
    answered: Mapping[str, str],
    again: Mapping[str, str],
    richly: Mapping[str, str],
) -> ChatFrame:
    for rendered in (plain, rich):
        if "error" in rendered:
            raise _Unusable(f"it ends with {' '.join(rendered['error'].split())[:QUOTED]}")
    prompt = plain["text"]
    if not prompt.strip():
        raise _Unusable("it writes nothing")
    before, message, after = prompt.partition(PLAIN)
    if not message:
        raise _Unusable("it leaves the message out")
    trim = next((trim for trim in TRIMS if rich["text"] == before + trim(RICH) + after), None)
    if trim is None:
        raise _Unusable("it changes the message, or writes something else around another one")
    head, answer, end = answered.get("text", "").partition(ANSWER)
    # Some formats let the model open its answer, behind the assistant's head; what only closes the user's turn is no such head.
    closed = not after.strip() or end.strip().startswith(after.strip())
    if bare.get("text") == prompt and answer and head.strip() != prompt.strip() and closed:
        raise _Unusable("its prompt does not end where an answer begins: it must heed add_generation_prompt")
    earlier, _, next_turn = again.get("text", "").partition(ANSWER)
    follows, asked_again, _ = next_turn.partition(AGAIN)
    begins = before + PLAIN
    as_is = (trim for trim in TRIMS if richly.get("text") == head + trim(RICH) + end)
    return ChatFrame(
        before=before,
        after=after,
        between=head.removeprefix(begins) if answer and head.startswith(begins) else None,
        earlier=earlier.removeprefix(begins) if next_turn else "",
        trim=trim,
        end=end,
        follows=follows if asked_again else "",
        trim_answer=next(as_is, str),
    )


def _rendered(render: Render, chats: Sequence[tuple[Sequence[Message], bool]]) -> list[dict[str, str]]:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send_rendered, args=(render, chats, sender, CPU_S), daemon=True)
    child.start()
    sender.close()
    try:
        if not receiver.poll(WAIT_S):
            raise _unusable(f"it was not rendered within {WAIT_S:.0f} s")
        rendered: list[dict[str, str]] = json.loads(receiver.recv_bytes())
        return rendered
    except EOFError:
        raise _unusable(f"rendering it did not end within {CPU_S} s of CPU time, or filled the memory") from None
    finally:
        child.kill()
        child.join()
        receiver.close()


def _send_rendered(render: Render, chats: Sequence[tuple[Sequence[Message], bool]], sender: Connection, cpu_s: int) -> None:
    """Runs in the child."""
    try:
        memory = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + MEMORY
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
        sender.send_bytes(json.dumps([_render(render, messages, prompt) for messages, prompt in chats]).encode())
    except BaseException:  # out of memory, or interrupted with its parent, which says so
        os._exit(1)


def _render(render: Render, messages: Sequence[Message], prompt: bool) -> dict[str, str]:
    try:
        text = render(messages, prompt)
    except Exception as error:  # whatever a template raises is its author's
        return {"error": f"{type(error).__name__}: {error}"[:LONGEST]}
    return {"text": text} if len(text) <= LONGEST else {"error": f"{len(text)} characters around a message"}


def _unusable(why: str) -> ConfigError:
    return ConfigError(
        f"model.path: no prompt can be made with the model's chat template: {why};"
        " correct it in chat_template.jinja or tokenizer_config.json"
    )
