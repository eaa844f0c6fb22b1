"""The run, stage by stage: the pipeline, cold-start sampling, fine-tuning, online RL, issuing, run state and summary."""
