"""Best of n: a policy writes n answers to a question, and a judge chooses.

    python examples/best_of_n.py POLICY JUDGE "Why is the sky blue?" --n 8 --votes 4

POLICY is a chat model's folder or hub name; JUDGE a run, a model folder, a hub name, or a server's address with --model.
"""

import argparse
from collections.abc import Sequence

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import spct


def answers(policy: str, question: str, n: int, max_new_tokens: int) -> list[str]:
    """Returns n sampled answers, each once."""
    tokenizer = AutoTokenizer.from_pretrained(policy)
    model = AutoModelForCausalLM.from_pretrained(policy, dtype="auto")
    text = tokenizer.apply_chat_template([{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    torch.manual_seed(0)
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=True, num_return_sequences=n, max_new_tokens=max_new_tokens
    )
    texts = (text.strip() for text in tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True))
    return list(dict.fromkeys(filter(None, texts)))


def main(argv: Sequence[str] | None = None) -> None:
    """Sample, judge, and print the answers, the best first."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("policy")
    options.add_argument("judge")
    options.add_argument("question")
    options.add_argument("--model", default="", help="name of the served judge; with a server only")
    options.add_argument("--n", type=int, default=8)
    options.add_argument("--votes", type=int, default=4)
    options.add_argument("--max-new-tokens", type=int, default=256)
    options.add_argument("--engine", default="auto", choices=("auto", "vllm", "transformers"))
    options.add_argument("--set", action="append", default=[], metavar="section.key=value", help="a setting of the judge")
    arguments = options.parse_args(argv)
    texts = answers(arguments.policy, arguments.question, arguments.n, arguments.max_new_tokens)
    if not texts:
        raise SystemExit("the policy wrote nothing: raise --n or --max-new-tokens")
    with spct.Judge(arguments.judge, model=arguments.model, engine=arguments.engine, overrides=arguments.set) as judge:
        scored = judge.score(arguments.question, texts, votes=arguments.votes)
    if scored.scores is None:
        raise SystemExit(f"nothing was judged: {scored.error}")
    for score, text in sorted(zip(scored.scores, texts, strict=True), key=lambda pair: -pair[0]):
        print(f"{score:5.2f}  {' '.join(text.split())}")


if __name__ == "__main__":
    main()
