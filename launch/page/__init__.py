"""The report page (`launch/report.py`): each section reads what a run or an evaluation left, and draws it."""
