"""The sections of the report page (`launch/report.py`): each reads what a run or an evaluation left, and draws it."""
