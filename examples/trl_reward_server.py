"""A reward server as the reward of TRL's GRPO: the judge runs elsewhere, and TRL's environment needs nothing of this repository
but `grm/` and `spct/`, which need Python alone.

    python launch/serve.py --run runs/mine                                   in one environment
    PYTHONPATH=. python examples/trl_reward_server.py POLICY http://127.0.0.1:8000 --steps 3      in TRL's
"""

import argparse

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from spct.trl import judge_reward

PROMPTS = ["Name a prime number.", "Say hello.", "What is two and two?", "Name a colour."]


def main() -> None:
    """Train a few steps and print the mean reward of each."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("policy", help="a model folder or hub name")
    options.add_argument("server", help="address of the reward server")
    options.add_argument("--steps", type=int, default=3)
    arguments = options.parse_args()
    trainer = GRPOTrainer(
        model=arguments.policy,
        reward_funcs=[judge_reward(arguments.server, votes=2)],
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        args=GRPOConfig(
            output_dir="trl-run",
            max_steps=arguments.steps,
            per_device_train_batch_size=4,
            num_generations=4,  # all of them on one device: each process asks for those that it has
            max_completion_length=16,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            bf16=torch.cuda.is_available(),
            use_cpu=not torch.cuda.is_available(),
        ),
    )
    trainer.train()
    print([each["reward"] for each in trainer.state.log_history if "reward" in each])  # None: nothing was judged


if __name__ == "__main__":
    main()
