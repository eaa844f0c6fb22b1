"""How often a rollout actor looks whether there is something for it. A fleet of them must not occupy the Redis server."""

POLL_S = 0.05  # how long finished groups and newer weights may go unnoticed
POLLS = 2000  # a second of all workers together, at most: a quarter of what a server can answer (tests/bench/fleet.py)


def rest_s(workers: int) -> float:
    """Returns how long a worker rests, beyond POLL_S, after it has looked in vain for a prompt or for weights, where there are
    so many. (One that has finished a group claims at once.)

    >>> rest_s(100), rest_s(1000)
    (0.0, 0.45)
    """
    return max(0.0, workers / POLLS - POLL_S)
