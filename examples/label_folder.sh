#!/usr/bin/env bash
# Label a folder of photos with your own questions, and write the labels and scores as a CSV file.
#
#   examples/label_folder.sh PHOTOS OUTPUT [MODEL] [further flags of pipelines/label.py]
#
# PHOTOS and OUTPUT are folders or s3:// prefixes. MODEL is a BLIP VQA checkpoint, by default Salesforce/blip-vqa-base
# from the hub; `tiny` works offline, on drawn faces only. Run it again after a stop: it does what is left.
set -euo pipefail

photos=$1
output=$2
model=${3:-Salesforce/blip-vqa-base}
here=$(cd "$(dirname "$0")" && pwd)

python "$here/../pipelines/label.py" --images "$photos" --output "$output" --model "$model" \
    --attributes "$here/my_questions.yaml" "${@:4}"
faceattr status "$output"
faceattr export labels "$output" --output labels.csv --class-names --scores
