"""Long-lived workers as plain classes; `launch/cluster` makes them remote.

`rollout` samples groups of completions, `reward` scores them by the rule. `vllm_engine` is the only file that imports vLLM.
"""
