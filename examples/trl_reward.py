"""A judge as the reward of TRL's GRPO: each completion earns its mean score, and one that was not judged has none.

    pip install trl
    python examples/trl_reward.py POLICY JUDGE --steps 3

POLICY is a model folder or hub name; JUDGE a run, a model folder, a hub name, or a server's address with --model.
"""

import argparse

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

import spct

PROMPTS = ["Name a prime number.", "Say hello.", "What is two and two?", "Name a colour."]


def main() -> None:
    """Train a few steps and print the mean reward of each."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("policy")
    options.add_argument("judge")
    options.add_argument("--model", default="", help="name of the served judge; with a server only")
    options.add_argument("--steps", type=int, default=3)
    options.add_argument("--set", action="append", default=[], metavar="section.key=value", help="a setting of the judge")
    options.add_argument("--engine", default="auto", choices=("auto", "vllm", "transformers"))
    arguments = options.parse_args()
    with spct.Judge(arguments.judge, model=arguments.model, engine=arguments.engine, overrides=arguments.set) as judge:
        trainer = GRPOTrainer(
            model=arguments.policy,
            reward_funcs=[judge.reward_fn(votes=2, together=2)],
            train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
            args=GRPOConfig(
                output_dir="trl-run",
                max_steps=arguments.steps,
                per_device_train_batch_size=4,
                num_generations=4,
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
