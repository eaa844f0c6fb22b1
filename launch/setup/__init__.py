<<<<<<< HEAD
"""Before a process starts: preflight checks, the run folder, the resource plan, model files, prompts and the tokenizer."""
=======
"""Before a process starts: config, data, prompts, plan and run folder."""
>>>>>>> refs/heads/house
