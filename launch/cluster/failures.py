"""How a run fails: the errors that the driver, the judges and the entries meet in place of Ray's own. Imports no Ray."""


class RunFailed(RuntimeError):
    """The run cannot go on. The message names the process and its last error."""


class ActorLost(RuntimeError):
    """An actor does not answer a call: it died, it was cut off, or it raised an error that another try may not meet.

    The message is the whole of Ray's text, which ends with the actor's own error.
    """

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason
        """The error on one line."""
