"""Gradients: the GRPO learner, the meta-RM learner and the fine-tuning of the cold start.

    advantages, losses, logprobs, shared_prefix, batching, selection   pure mathematics, each checked against worked numbers
    models, deepspeed_engine, checkpoint, weight_export                a model in training, and the two ways out of it
    experience, grpo_intake, meta_intake                               rank 0 at the buffer
    base, grpo, meta_rm, sft                                           the learners; sft_examples, cold_start_batches: their files
    meta_scorer                                                        a trained meta-RM that only scores

`deepspeed_engine` is the only file that imports DeepSpeed. Rewards reach a learner as numbers: nothing here knows a
prompt's text, a judgement or a label. The formulas are in docs/design.md, section 4.
"""
