"""What the policies of a run are worth: each is judged once, while its engines are up, and its figures are kept everywhere.

a stage's engines ─▶ evaluation (greedy), votes ─▶ evaluations.jsonl, tracker, display; a policy that keeps no format is told
"""

from pathlib import Path

from configs.schema import Config
from launch.cluster.stage_actors import StageActors
from launch.driver.format_diagnosis import of_evaluation
from launch.driver.run_begin import EVALUATIONS
from launch.driver.run_state import RunState
from launch.driver.summary import RunResults
from launch.judging.run_judgements import RunJudgements
from launch.judging.samples import WHOSE, When
from launch.monitoring import jsonl_log
from launch.monitoring.console import ProgressDisplay
from launch.monitoring.tracker import Tracker


class StageJudging:
    """Judges the policy of a stage. What an earlier try of the run has judged is not judged again."""

    def __init__(
        self,
        config: Config,
        judgements: RunJudgements,
        *,
        results: RunResults,
        run_state: RunState,
        tracker: Tracker,
        progress: ProgressDisplay,
        folder: Path,
    ) -> None:
        """Reads and writes nothing yet.

        Args:
            config: The run's.
            judgements: What is asked.
            results: Get the evaluations.
            run_state: Gets the time.
            tracker: Gets the metrics.
            progress: Shows them.
            folder: The run's.
        """
        self._config, self._judgements, self._results, self._run_state = config, judgements, results, run_state
        self._tracker, self._progress, self._folder = tracker, progress, folder

    def judge(self, actors: StageActors, when: When, *, version: int) -> None:
        """Greedy judgements and votes of the stage's policy, as far as they are not on disk."""
        self.evaluate(actors, when, version=version)
        if self._config.eval.votes:
            with self._run_state.timed(f"vote_{when}"):
                self._judgements.vote(actors, when, version=version)

    def evaluate(self, actors: StageActors, when: When, *, version: int) -> None:
        """Judge the held-out preferences greedily under the stage's policy, unless an earlier try did."""
        if when in self._results.evaluations:
            return
        with self._run_state.timed(f"evaluate_{when}"):
            result, samples = self._judgements.evaluate(actors, when, version=version)
        self._results.evaluations[when] = result
        jsonl_log.append(self._folder / EVALUATIONS, [result.row()])
        self._tracker.log(result.metrics())
        self._tracker.samples(samples)
        self._progress.update(accuracy=result.accuracy)
        self._progress.note(f"evaluated {when.replace('_', ' ')}: {result.describe()}")
        for line in of_evaluation(self._config, result, self._judgements.unread(when), whose=WHOSE[when]):
            self._progress.note(line)
