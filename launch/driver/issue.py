"""The driver's side of I2 and I7: prompts are issued while there is credit, and the data cursor moves with them."""

from collections.abc import Callable

from buffer.ledger import Cursor, Ledger, Offer
from buffer.messages import Prompt, encode
from buffer.streams import Address, connect
from configs.schema import Config
from launch.setup.prompt_source import Draft, sampling_seed

TakePrompts = Callable[[Cursor, int], list[tuple[Draft, Cursor]]]


def issue(ledger: Ledger, config: Config, take: TakePrompts) -> int:
    """Offer as many prompts as there is credit for. The ledger's script has the last word (I2) and moves the data cursor with
    them (I7); it adds all of them at once, so a worker that claims finds them together.

    Args:
        ledger: The run's accounts.
        config: The run's.
        take: Returns so many prompts from a cursor on, each with the cursor behind it.

    Returns:
        How many were issued.
    """
    credit = config.credit - len(ledger.outstanding())
    if credit <= 0:
        return 0
    cursor, version = ledger.cursor(), ledger.version()
    offers = [_offer(config, draft, after, version) for draft, after in take(cursor, credit)]
    return ledger.issue(offers, version=version, limit=config.credit)


def reopen(ledger: Ledger, config: Config, take: TakePrompts) -> int:
    """Issue a round again: at eta = 0, when a run is resumed in the middle of it, all prompts that were issued together are
    sampled again together, as in a run that was never cut off. (A log-prob depends in its last bits on what else is decoded.)

    No worker may be at work yet. What was finished of the round is thrown away; the meta-RM may get it a second time.

    Args:
        ledger: The run's accounts.
        config: The run's.
        take: As in `issue`.

    Returns:
        How many prompts are sampled again.
    """
    round_start, outstanding = ledger.round_start(), ledger.outstanding()
    open_groups = [number for number in range(round_start.group, ledger.cursor().group) if number in outstanding]
    if config.grpo.max_staleness or set(open_groups) <= ledger.finished():
        return 0
    drafts = take(round_start, ledger.cursor().group - round_start.group)
    prompts = [_prompt(config, draft, after, outstanding[after.group - 1]) for draft, after in drafts]
    ledger.reopen({prompt.group: encode(prompt, max_bytes=config.max_entry_bytes) for prompt in prompts})
    return len(prompts)


def reopen_round(config: Config, address: Address, take: TakePrompts, *, note: Callable[[str], None]) -> None:
    """Issue a round again, where that is due (`reopen`), and note it.

    Args:
        config: The run's.
        address: Of its streams.
        take: As in `issue`.
        note: Gets a log line.
    """
    with connect(address, timeout_s=config.waits.server_s) as client:
        if again := reopen(Ledger(client, address.run_id), config, take):
            note(f"resumed in the middle of a round: its {again} prompts are sampled again")


def _offer(config: Config, draft: Draft, after: Cursor, version: int) -> Offer:
    prompt = _prompt(config, draft, after, version)
    return Offer(group=prompt.group, payload=encode(prompt, max_bytes=config.max_entry_bytes), after=after)


def _prompt(config: Config, draft: Draft, after: Cursor, version: int) -> Prompt:
    group = after.group - 1
    return Prompt(
        group=group,
        preference=draft.preference,
        views=draft.views,
        issued_at=version,
        seed=_seed(config, group),
    )


def _seed(config: Config, group: int) -> int | None:
    """Returns the seed of a group at eta = 0, where a prompt gives the same completions on every worker and at any time: a
    resumed run ends as one that was not cut off. Otherwise None: the engine draws from its own stream, which is faster."""
    return sampling_seed(f"group/{config.run.seed}/{group}") if config.grpo.max_staleness == 0 else None
