"""lm-eval (the evaluation harness): local tasks by its models local-chat-completions and local-completions.

Generation needs no tokenizer here. Scoring sends token ids of the model's own tokenizer and needs the log probabilities of a
prompt (`echo` with `logprobs`)."""
import json
import math
import os
import pathlib

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OPENAI_API_KEY": "-"}
from calls import BASE, MODEL, NotRun, call, main, post

FOLDER = pathlib.Path.home() / "tasks"
FOLDER.mkdir(exist_ok=True)
QUESTIONS = [{"question": "Two and two are", "choices": ["four", "nine"], "answer": 0}, {"question": "The sun rises in the", "choices": ["east", "spoon"], "answer": 0}]
(FOLDER / "questions.jsonl").write_text("".join(json.dumps(q) + "\n" for q in QUESTIONS))
TASK = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{question}}}}"
doc_to_target: {target}
{more}
metric_list: [{{metric: {metric}, aggregation: mean, higher_is_better: true}}]
"""
DATA = FOLDER / "questions.jsonl"
(FOLDER / "says.yaml").write_text(TASK.format(name="says", data=DATA, kind="generate_until", target='"{{choices[answer]}}"', metric="exact_match", more='generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false}'))
(FOLDER / "chooses.yaml").write_text(TASK.format(name="chooses", data=DATA, kind="multiple_choice", target="answer", metric="acc", more='doc_to_choice: "{{choices}}"'))


def evaluate(model, task, **more):
    """The results of the task, and what the model answered for each question."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    route = "chat/completions" if model == "local-chat-completions" else "completions"
    arguments = {"model": MODEL, "base_url": f"{BASE}/{route}", "num_concurrent": 1, "max_retries": 1, "tokenized_requests": False, "tokenizer_backend": None} | more
    got = lm_eval.simple_evaluate(model=model, model_args=arguments, tasks=[task], task_manager=TaskManager(include_path=str(FOLDER), include_defaults=False), apply_chat_template=route != "completions", log_samples=True, bootstrap_iters=0)
    return got["results"][task], got["samples"][task]


@call("chat")
def chat():
    results, samples = evaluate("local-chat-completions", "says")
    assert len(samples) == len(QUESTIONS) and all(isinstance(s["resps"][0][0], str) for s in samples) and "exact_match,none" in results, results


@call("completions")
def completions():
    _, samples = evaluate("local-completions", "says")
    assert all(s["resps"][0][0].strip() for s in samples), samples


@call("scoring")
def scoring():
    asked = {"model": MODEL, "prompt": "The sea is wide", "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
    status, body = post("/v1/completions", asked)
    if status == 400 and body["error"].get("param") in ("echo", "logprobs"):
        raise NotRun(f"prompt scoring is not in this binary: {body['error']['message']}")
    assert status == 200, body
    found = body["choices"][0]["logprobs"]
    assert found["token_logprobs"][0] is None and all(math.isfinite(x) for x in found["token_logprobs"][1:]), found
    # Texts are sent as ids of the model's own tokenizer, which the runner has laid here.
    tokenizer = os.environ["LLORCH_CLIENT_TOKENIZER"]
    results, samples = evaluate("local-completions", "chooses", tokenizer_backend="huggingface", tokenizer=tokenizer, tokenized_requests=True)
    assert all(math.isfinite(r[0][0]) and r[0][0] < 0 for s in samples for r in s["resps"]), samples
    assert results["acc,none"] == 1, "it must know that two and two are not nine"


if __name__ == "__main__":
    main()
