"""mistral.rs, by its Python package: it continues a text by one token and shows the log-probabilities of that token's rivals, prefix by prefix."""
# environment: mistralrs
# packages: mistralrs numpy
# check: mistralrs
import pathlib
import sys

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])  # and not this folder, whose files have the engines' names
import reference  # noqa: E402


def run(a):
    import importlib.metadata
    import time

    import mistralrs
    import numpy as np

    if a.model.is_dir():
        raise reference.Unavailable("it reads GGUF files here, no folders")
    template = a.out / "raw.jinja"
    template.write_text("{{ messages[0]['content'] }}")
    which = mistralrs.Which.GGUF(quantized_model_id=str(a.model.resolve().parent), quantized_filename=a.model.resolve().name)
    runner = mistralrs.Runner(which=which, max_seqs=1, jinja_explicit=str(template), no_paged_attn=True)
    width = 1 << 20  # of rivals: all that there are
    positions, rows = [], []
    began = time.monotonic()
    for p in sorted({*range(3), *range(0, len(a.tokens), max(1, len(a.tokens) // 12)), len(a.tokens) - 1}):
        text = runner.detokenize_text(a.tokens[: p + 1], False)
        if runner.tokenize_text(text, False, None) != a.tokens[: p + 1]:
            continue  # it takes texts alone, and would read other ids
        request = mistralrs.ChatCompletionRequest(model="default", messages=[{"role": "user", "content": text}], max_tokens=1, logprobs=True, top_logprobs=width, temperature=0.0)
        rivals = runner.send_chat_completion_request(request).choices[0].logprobs.content[0].top_logprobs
        row = np.full(max(r.token for r in rivals) + 1, -np.inf, np.float32)
        row[[r.token for r in rivals]] = [r.logprob for r in rivals]
        positions.append(p), rows.append(row)
        if time.monotonic() - began > 240:
            break
    if not rows:
        raise reference.Unavailable("it takes texts alone, and reads other ids in them")
    template.unlink()
    np.save(a.out / "logits.npy", np.stack(rows))
    reference.about(a.out, engine="mistral.rs", version=importlib.metadata.version("mistralrs"), weights="as stored", arithmetic="as it chooses", reduced=True, log_probabilities=True, positions=positions,
                    own_ids=runner.tokenize_text(a.written, False, None) if a.written else None)


if __name__ == "__main__":
    sys.exit(reference.main(run))
