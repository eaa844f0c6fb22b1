"""Before a process starts: config, data, prompts, plan and run folder."""
