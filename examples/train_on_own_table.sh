#!/usr/bin/env bash
# Train on labels that you have: pack a table and its images, train, evaluate, write the model as ONNX.
#
#   examples/train_on_own_table.sh FOLDER OUTPUT [further flags of pipelines/train.py]
#
# FOLDER holds labels.csv (or .tsv, .parquet) and the images that it names: a column image_path (or file, filename, ...),
# and a column of 1 and 0 for each attribute. Other kinds of labels need a mapping, see examples/own_source.py.
# A flag of train.py may follow: --model.backbone resnet50 --optim.epochs 20 --workers.use-gpu
set -euo pipefail

folder=$1
output=$2
pipelines=$(cd "$(dirname "$0")/../pipelines" && pwd)

python "$pipelines/pack.py" --source table --root "$folder" --output "$output/packed"
python "$pipelines/train.py" --data "$output/packed" --output "$output/model" "${@:3}"
python "$pipelines/eval.py" --model "$output/model" --data "$output/packed" --output "$output/eval"
faceattr export model "$output/eval/model" --output "$output/model.onnx"
echo "look at $output/eval/report.html and $output/eval/MODEL_CARD.md"
