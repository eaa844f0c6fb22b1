"""Gradients: the GRPO learner, the meta-RM learner and the fine-tuning of the cold start.

Pure files (torch or the standard library only, each checked against worked numbers): ``advantages``, ``losses``,
``attention`` and ``logprobs`` (the policy's forward pass), ``batching``, ``selection``, ``ranking``, ``examples``,
``meta_seed``. ``models`` loads
and saves Hugging Face models, ``engine`` is the only file that knows DeepSpeed, ``checkpoint`` and ``weights`` are the
two ways that weights leave. ``grpo`` and ``meta_rm`` tie them to the stream (``experience``, ``intake``: rank 0 at the
buffer), ``sft`` to a data set on disk; ``base`` is what all learners share. ``meta_scorer`` only scores.

Rewards reach a learner as numbers: nothing here knows what a prompt's text, a judgement or a label is.
"""
