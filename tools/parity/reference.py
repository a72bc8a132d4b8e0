"""What the programs of references/ share: their command line, what they leave behind, and how they say no.

A reference is one file, references/NAME.py. It is run in a process of its own by the Python of its own environment:

    build/references/ENVIRONMENT/bin/python tools/parity/references/NAME.py MODEL --f32 MODEL_IN_F32 --ids IDS --text TEXT --out FOLDER

It runs the ids (one line, separated by spaces) from position 0 and leaves in FOLDER:
    logits.npy    float32 [ids, vocabulary]; row p: what follows when ids 0 to p are read (of a model that gives embeddings [ids, width]: its last states)
    about.json    see about() below
    X.npy         float32 [ids, width]: checkpoints, under the names of src/forward/model.h, where the engine shows them
Exit code 0; or 3, and the last line of stdout is {"unavailable": "reason in one line"}.

Comments at its top say how it is installed (`./dev references` reads them):
    # environment: NAME     several files may share one
    # packages: a b c       for pip
    # check: module         it is installed where this can be imported
    # truth                 what it computes is the truth that the others are measured by
    # f32                   it is given the weights in a GGUF file of float32, too
    # folders as f32        the same, of folders alone
    # documented only       no package is known: it is never installed, and says so
"""
import argparse
import json
import pathlib
import sys
import traceback


class Unavailable(Exception):
    """This engine cannot be used here, or not with this model; the text says why."""


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("--f32", type=pathlib.Path, help="the same weights in a GGUF file of float32")
    p.add_argument("--ids", type=pathlib.Path, required=True)
    p.add_argument("--text", type=pathlib.Path, help="the text that the ids are of")
    p.add_argument("--out", type=pathlib.Path, required=True)
    a = p.parse_args()
    a.tokens = [int(word) for word in a.ids.read_text().split()]
    a.written = a.text.read_text() if a.text else None
    return a


def gives_states(config):
    """Whether transformers' configuration is one of a model that gives embeddings: rows are the last states of its tokens."""
    return not any("CausalLM" in name or "ConditionalGeneration" in name or "LMHead" in name for name in config.architectures or ["CausalLM"])


def model_class(config):
    """Of transformers."""
    import transformers

    return transformers.AutoModel if gives_states(config) else transformers.AutoModelForCausalLM


def about(out, *, engine, version, weights, arithmetic, reduced=False, log_probabilities=False, states=False, positions=None, own_ids=None, note=""):
    """weights: "as stored", or what was done to them. reduced: it rounds more than float32 does (activations in 8 bits, bfloat16, a cache
    in float16), so that differences of some percent are explained. log_probabilities: rows are these, not logits. states: rows are the last states of a model that gives embeddings, [ids, width]. positions: of the rows, where they are not all. own_ids: what its own
    tokenizer makes of the text."""
    (out / "about.json").write_text(json.dumps({"engine": engine, "version": version, "weights": weights, "arithmetic": arithmetic, "reduced": reduced, "log_probabilities": log_probabilities, "states": states,
                                                **({"positions": positions} if positions is not None else {}), **({"own_ids": own_ids} if own_ids is not None else {}), **({"note": note} if note else {})}))


def main(run):
    """Runs one reference; whatever goes wrong is one line."""
    try:
        a = arguments()
        a.out.mkdir(parents=True, exist_ok=True)
        run(a)
        return 0
    except Unavailable as e:
        reason = str(e)
    except Exception as e:  # an engine's own trouble with a model: the others go on
        traceback.print_exc()
        reason = f"{type(e).__name__}: {e}"
    except BaseException as e:  # what some bindings throw where others' panics end a process
        if isinstance(e, (KeyboardInterrupt, SystemExit)):
            raise
        reason = f"{type(e).__name__}: {e}"
    sys.stdout.flush()
    print(json.dumps({"unavailable": " ".join(reason.split())[:300]}), flush=True)
    return 3
