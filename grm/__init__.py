"""The reward model as text and numbers: preferences, prompts, judgements, rewards, rejection, voting, tables of figures.

Standard library only (`datasets` where a public set is named). It imports nothing of ours. Invariant I6 begins here: a
`Question` has no label (docs/design.md, section 3).
"""
