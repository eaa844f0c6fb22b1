"""Gradients: the GRPO learner, the meta-RM learner and the fine-tuning of the cold start.

    grpo  meta_rm  sft                    the learners; meta_scorer only scores
      base                                what they share: ranks, version, checkpoints, clock
        grpo_intake  meta_intake          rank 0 at the buffer, through experience; arrivals counts what came
        sealing -> checkpoint             weights that stay; weight_export: weights that leave
        models  deepspeed_engine  ranks   with deepspeed_import all that knows DeepSpeed
      losses  corrections  kl  logprobs   pure: torch alone, checked against worked numbers
      advantages  overlong  staleness     pure: the standard library alone
      shared_prefix  batching  selection
      sft_examples  cold_start_batches    files larger than memory, through json_lines

Rewards reach a learner as numbers: nothing here depends on a prompt's text, a judgement or a label.
"""
