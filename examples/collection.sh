#!/usr/bin/env bash
# The collection on equal terms: eight models, the same heads, the same images seen, the same measurements, one page.
#
#   examples/collection.sh [OUT] [KIMG] [SEEDS]
#
#   OUT     folder of everything that is made            (runs/collection)
#   KIMG    thousands of images that each run is shown   (200)
#   SEEDS   runs a model, with seeds 0, 1, …             (1; from 2 on the page has intervals)
#
# Say it again to go on after a stop, or with a larger KIMG or more SEEDS: what is finished is passed over.
#
# Also, from the environment:
#   DATA        a dataset of 32² or more, with attributes         (heads, rendered into OUT)
#   HEADS       how many heads to render without DATA             (10000)
#   COUNT       images of each set when a finished run is measured (5000)
#   PROBE_KIMG  training of the probe that reads attributes and compares features; 0 for none (100)
#   SIDE        of the pictures, pixels                            (32)
#   MODELS      which of the eight                                (all)
set -euo pipefail

out=${1:-runs/collection}
kimg=${2:-200}
seeds=${3:-1}
data=${DATA:-$out/heads-32}
models=${MODELS:-dcgan lsgan wgan wgan-gp infogan began vae vae-gan}
side=${SIDE:-32}

# Equal terms: what every model gets. Each run measures itself six times on its way.
common=(
  --data "$data" --resolution "$side" --attributes auto
  --width 32 --latent-dim 128 --batch-size 32 --kimg "$kimg"
  --metrics swd ms_ssim --metrics-count 1000 --metrics-kimg "$(awk "BEGIN { print $kimg / 6 }")"
)

# once MARK COMMAND…: the command, unless it has been finished before.
once() {
  local mark=$1
  shift
  if [ ! -e "$mark" ]; then
    "$@"
    touch "$mark"
  fi
}

# train MODEL SETTINGS…: one run a seed, begun or gone on with, then measured.
runs=()
train() {
  local model=$1 seed run
  shift
  case " $models " in *" $model "*) ;; *) return 0 ;; esac
  for ((seed = 0; seed < seeds; seed++)); do
    run=$out/$model-$seed
    if [ -e "$run/config.json" ]; then
      once "$run/trained-$kimg-kimg" limner resume "$run" --kimg "$kimg"
    else
      once "$run/trained-$kimg-kimg" limner train "$model" "${common[@]}" "$@" --seed "$seed" --out "$run"
    fi
    once "$run/measured-$kimg-kimg" limner evaluate "$run" --count "${COUNT:-5000}"
    runs+=("$run")
  done
}

mkdir -p "$out"
if [ ! -e "$data/dataset.json" ]; then
  limner data heads "$data" --resolution "$side" --count "${HEADS:-10000}"
fi
if [ "${PROBE_KIMG:-100}" != 0 ] && [ ! -e "$data/probe.safetensors" ]; then
  limner data probe "$data" --kimg "${PROBE_KIMG:-100}"
fi

# Learning rates, clip and balance for some hundred thousand images rather than the papers' millions.
train dcgan --learning-rate 6e-4
train lsgan --learning-rate 6e-4
train wgan --learning-rate 5e-4 --clip 0.1
train wgan-gp --learning-rate 4e-4
train infogan --codes attributes
train began --width 24 --learning-rate 4e-4 --gamma 0.7 --k-rate 0.02
train vae
train vae-gan

limner compare "${runs[@]}" --out "$out/compare.html" --overwrite
