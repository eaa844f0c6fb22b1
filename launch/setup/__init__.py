"""Before a process starts: preflight checks, the run folder, the resource plan, model files, prompts and the tokenizer."""
