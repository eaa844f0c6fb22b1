"""The reward model as text and numbers: preferences, prompts, judgements, rewards, votes, statistics. Standard library only."""
