"""The report page, drawn from the files that a run or an evaluation left: its sections, charts and tables."""
