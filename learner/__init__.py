"""Gradients: the GRPO learner and the meta-RM learner.

Pure files (torch or the standard library only, each checked against worked numbers): ``advantages``, ``losses``,
``attention`` and ``logprobs`` (the policy's forward pass), ``batching``, ``selection``, ``ranking``. ``models`` loads
and saves Hugging Face models, ``engine`` is the only file that knows DeepSpeed, ``checkpoint`` and ``weights`` are the
two ways that weights leave. ``grpo`` and ``meta_rm`` tie them to the stream (``experience``, ``intake``: rank 0 at the
buffer; ``base``: what both learners share).

Rewards reach a learner as numbers: nothing here knows what a prompt's text, a judgement or a label is.
"""
