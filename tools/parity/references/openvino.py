"""OpenVINO, by OpenVINO GenAI: it reads the GGUF file and makes its own model of it, which runs here with logits of every position."""
# environment: openvino
# packages: openvino-genai numpy
# check: openvino_genai
import pathlib
import sys

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])  # and not this folder, whose files have the engines' names
import reference  # noqa: E402


def run(a):
    import numpy as np
    import openvino
    import openvino_genai

    if a.model.is_dir():
        raise reference.Unavailable("it reads GGUF files here, no folders")
    place = a.out / "model.gguf"
    place.symlink_to(a.model.resolve())  # it writes its own model beside the file
    openvino_genai.LLMPipeline(str(place), "CPU", enable_save_ov_model=True)
    model = openvino.Core().compile_model(a.out / "openvino_model.xml", "CPU")
    n = len(a.tokens)
    inputs = {"input_ids": np.array([a.tokens]), "attention_mask": np.ones((1, n), np.int64), "position_ids": np.arange(n)[None], "beam_idx": np.zeros(1, np.int32)}
    request = model.create_infer_request()
    logits = request.infer({name: inputs[name] for port in model.inputs for name in port.names if name in inputs})[0]
    np.save(a.out / "logits.npy", np.asarray(logits, np.float32).reshape(n, -1))
    kind = model.get_property("INFERENCE_PRECISION_HINT").to_string()
    reference.about(a.out, engine="OpenVINO GenAI", version=openvino_genai.__version__, weights="as its reader converts them", arithmetic=f"{kind}, as it chooses; activations in 8 bits", reduced=True,
                    own_ids=None if not a.written else openvino_genai.Tokenizer(str(a.out)).encode(a.written, add_special_tokens=False).input_ids.data[0].tolist())
    for path in a.out.glob("openvino_*"):
        path.unlink()
    place.unlink()


if __name__ == "__main__":
    sys.exit(reference.main(run))
