"""text-generation-inference: a server in Rust and Python without a package; its container is asked with details and decoder_input_details,
which give the log-probability of each prompt token, and top_n_tokens of the last position."""
# environment: text_generation_inference
# documented only
import json

if __name__ == "__main__":
    print(json.dumps({"unavailable": "not installed: see the comment in this file"}))
    raise SystemExit(3)
