"""The reward server: HTTP in, verdicts out. Cohorts and finished verdicts live in Redis, votes come from our engines."""
