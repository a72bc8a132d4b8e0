#!/usr/bin/env python3
"""What a developer's machine is to build and test (K-08, K-09): .llorch.toml and .llorch-test.toml in the repository's root, detection, defaults.

tools/settings/settings.py [--cuda yes|no] [--backend NAME] [--root FOLDER]
Prints one `name=value` a line. An explicit flag comes before the file, the file before what is found, that before the default. An unknown key or
a wrong type ends it with exit code 2. .llorch.toml is the project's and may be committed; .llorch-test.toml is one machine's (an example: .llorch-test.example.toml).
"""
import argparse
import os
import pathlib
import shutil
import sys
import tomllib

BACKENDS = ("cpu", "cuda", "accelerate")
BUILT = ("cpu", "accelerate")  # whose code is here
PROJECT = {"build": {"cuda": bool, "auto_detect_cuda": bool}, "worker": {"default_gpu_device": int, "default_model": str}, "development": {"verbose_build": bool, "skip_cuda_tests": bool}}
MACHINE = {"backend": {"test_backend": str}, "features": {"enabled": list}, "build": {"build_cpu": bool, "build_cuda": bool, "build_accelerate": bool}}


class Wrong(Exception):
    pass


def read(path, known):
    """The file's values by (section, key); none where there is no file."""
    if not path.exists():
        return {}
    try:
        sections = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise Wrong(f"{path.name}: {e}") from e
    out = {}
    for section, values in sections.items():
        if section not in known or not isinstance(values, dict):
            raise Wrong(f"{path.name}: [{section}] is not known (there are: {', '.join(known)})")
        for key, value in values.items():
            kind = known[section].get(key)
            if kind is None:
                raise Wrong(f"{path.name}: {section}.{key} is not known (there are: {', '.join(known[section])})")
            if type(value) is not kind:
                raise Wrong(f"{path.name}: {section}.{key} must be of type {kind.__name__}")
            out[section, key] = value
    return out


def find_nvcc(environment):
    """Where a CUDA compiler is: the path, CUDA_PATH, the usual folders."""
    places = [shutil.which("nvcc", path=environment.get("PATH", ""))]
    places += [f"{folder}/bin/nvcc" for folder in (environment.get("CUDA_PATH"), "/usr/local/cuda", "/opt/cuda") if folder]
    return next((p for p in places if p and os.access(p, os.X_OK)), "")


def resolve(root, environment, cuda=None, backend=None):
    project, machine = read(root / ".llorch.toml", PROJECT), read(root / ".llorch-test.toml", MACHINE)
    if cuda is None:
        cuda = machine.get(("build", "build_cuda"), project.get(("build", "cuda")))
    nvcc = find_nvcc(environment)
    if cuda is None:
        cuda = bool(nvcc) and project.get(("build", "auto_detect_cuda"), True)
    if cuda and not nvcc:
        raise Wrong("CUDA is asked for, and no nvcc is found (PATH, CUDA_PATH, /usr/local/cuda, /opt/cuda)")
    backend = backend or machine.get(("backend", "test_backend"), "cpu")
    if backend not in BACKENDS:
        raise Wrong(f"test_backend '{backend}' is not known (there are: {', '.join(BACKENDS)})")
    if backend not in BUILT:
        raise Wrong(f"test_backend '{backend}': there is no code for it yet (there is: {', '.join(BUILT)})")
    if not machine.get(("build", "build_cpu"), True):
        raise Wrong("build.build_cpu = false leaves nothing to build")
    # ON: configuring fails where there is no CBLAS (cmake/accelerate.cmake); AUTO: it is built where there is one.
    accelerate = {True: "ON", False: "OFF", None: "AUTO"}[machine.get(("build", "build_accelerate"))]
    if backend == "accelerate" and accelerate == "OFF":
        raise Wrong("test_backend 'accelerate' is not built: build.build_accelerate = false")
    return {"cuda": "yes" if cuda else "no", "nvcc": nvcc, "test_backend": backend, "accelerate": accelerate, "features": ",".join(map(str, machine.get(("features", "enabled"), []))),
            "default_model": project.get(("worker", "default_model"), "builtin:haiku"), "default_gpu_device": project.get(("worker", "default_gpu_device"), 0),
            "verbose_build": "yes" if project.get(("development", "verbose_build")) else "no", "skip_cuda_tests": "yes" if project.get(("development", "skip_cuda_tests")) else "no"}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--cuda", choices=("yes", "no"))
    p.add_argument("--backend")
    p.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent.parent)
    a = p.parse_args()
    try:
        for name, value in resolve(a.root, os.environ, None if a.cuda is None else a.cuda == "yes", a.backend).items():
            print(f"{name}={value}")
    except Wrong as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
