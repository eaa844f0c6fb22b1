"""Publishes versions beside training.

weights ─ copied to the CPU ─▶ the learner goes on
                           └▶ [ thread: seal ─▶ WeightSink.publish ]

The learner leaves `publish` when its weights are copied, so the next optimiser step may change them. The copy is written to
again only when the version before is published: versions come out in their order, and there is one copy.
"""

from collections.abc import Callable

from buffer.weights import PublishedWeights, WeightSink
from learner.background import BackgroundJob


class Publisher:
    """On rank 0. All methods are called by the learner's thread."""

    def __init__(self, sink: WeightSink, *, timeout_s: float) -> None:
        """Publish nothing.

        Args:
            sink: where versions are published, in the thread.
            timeout_s: for a version to be published; the setting is `waits.progress_s`.
        """
        self._sink = sink
        self._job = BackgroundJob[PublishedWeights](name="publisher", timeout_s=timeout_s)

    def publish(self, version: int, seal: Callable[[], PublishedWeights]) -> None:
        """Begin to publish a version; the one before was waited for.

        Args:
            version: of the policy.
            seal: returns the weights; called in the thread.
        """

        def job() -> PublishedWeights:
            weights = seal()
            self._sink.publish(weights)
            return weights

        self._job.start(f"version {version} to be published", job)

    def wait(self) -> None:
        """Return when what was begun is published, or raise why it was not."""
        self._job.wait()

    def look_after(self) -> None:
        """Raise why the last version was not published; publish it again if the transport has lost it."""
        if not self._job.under_way:
            self._job.wait()
            self._sink.republish_if_lost()
