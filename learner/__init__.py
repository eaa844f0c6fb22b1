"""Gradients: the GRPO learner and the meta-RM learner.

Pure files (torch or the standard library only, each checked against worked numbers): ``advantages``, ``losses``,
``logprobs``, ``batching``, ``selection``, ``ranking``. ``engine`` is the only file that knows DeepSpeed. ``grpo`` and
``meta_rm`` tie them to the experience stream; ``weights`` and ``checkpoint`` are the two ways that weights leave.

Rewards reach a learner as numbers: nothing here knows what a prompt, a judgement or a label is.
"""
