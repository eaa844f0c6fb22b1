"""Gradients: the GRPO learner, the meta-RM learner and the fine-tuning of the cold start.

    grpo  meta_rm  sft                    the learners; meta_scorer only scores
      base                                what they share: ranks, version, checkpoints
        grpo_intake  meta_intake          rank 0 at the buffer, through experience; arrivals counts what came
        checkpoint_writer  verification   weights that stay, in checkpoint; publisher, weight_export: weights that leave
        models  deepspeed_engine  ranks   with deepspeed_*.py all that knows DeepSpeed; attention: that of GPUs
      losses  corrections  kl  logprobs   pure: torch alone, checked against worked numbers
      advantages  overlong  staleness     pure: the standard library alone
      shared_prefix  batching  selection  head_logprobs
      sft_examples  cold_start_batches    files larger than memory, through json_lines

Rewards reach a learner as numbers: nothing here depends on a prompt's text, a judgement or a label.
"""
