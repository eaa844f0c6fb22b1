"""The reward model as text and numbers: preferences, prompts, judgements, rewards. Standard library only."""
