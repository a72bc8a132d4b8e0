"""ONNX Runtime GenAI: it reads no GGUF. Its model builder makes ONNX of a folder that transformers saved, and Generator.get_output("logits")
has the rows; the builder needs torch and onnx beside the package onnxruntime-genai."""
# environment: onnxruntime_genai
# documented only
import json

if __name__ == "__main__":
    print(json.dumps({"unavailable": "not installed: see the comment in this file"}))
    raise SystemExit(3)
