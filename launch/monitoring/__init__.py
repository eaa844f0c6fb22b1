"""What a run writes and shows: metrics and their tracker, the console, snapshots and their diagnosis, stacks of processes."""
