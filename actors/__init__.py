"""Long-lived workers as plain classes; `launch/cluster` makes them remote.

`rollout` samples groups of completions, `reward` scores them by the rule. Only the `vllm_*` files import vLLM.
"""
