#!/bin/sh
# The networks that the studies of the three papers begin with, trained and put where they look.
#
#   sh studies/baselines.sh NAME CIFAR DIR [options of shrinkproof compress]
#
# trains NAME on the images in the folder CIFAR (CIFAR-10, or CIFAR-100 where the name ends with
# _cifar100) and writes DIR/NAME.safetensors. The same command goes on after the last finished epoch.
# Names:
#
#   vgg16_bn                       30 epochs, or EPOCHS of the environment. EPOCHS=16 takes two cores 80
#                                  minutes and gets 90.8 % of the test images right
#   mitra2024_vgg16_bn  mitra2024_vgg19_bn  mitra2024_resnet110
#   mitra2024_preresnet110  mitra2024_preresnet164
#                                  160 epochs, as in the paper; for a GPU
#   dasilva2025_resnet50  dasilva2025_vgg19  dasilva2025_mobilenet_v2, and each with _cifar100
#                                  from weights for ImageNet, which torchvision downloads; for a GPU
#
# The paper of the last ones stopped training by test images. Here the number of epochs is the one
# that it arrived at, so that no test image decides anything.

set -eu

usage() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
    exit 2
}

[ $# -ge 3 ] || usage
name=$1 cifar=$2 folder=$3
shift 3

data=cifar10 classes=10
case $name in
*_cifar100) data=cifar100 classes=100 ;;
esac
small='{mean: [0.4914, 0.4822, 0.4465], std: [0.2023, 0.1994, 0.2010]}'
large='{mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}'

# The schedule of Liu et al. 2019 (arXiv:1810.05270), which Mitra et al. 2024 take over.
long() {
    network=cifar:$1 preprocess=$small
    training='epochs: 160, learning_rate: 0.1, schedule: step, milestones: [80, 120], batch: 64, augment: [crop, flip]'
}

imagenet() {
    network=upsampled:$1 preprocess=$large
    training="epochs: $2, learning_rate: 0.00001, optimizer: adam, weight_decay: 0, schedule: constant, batch: 256"
}

case $name in
vgg16_bn)
    network=cifar:vgg16_bn preprocess=$small
    training="epochs: ${EPOCHS:-30}, learning_rate: 0.1, weight_decay: 0.0005, schedule: onecycle, batch: 128, augment: [crop, flip], precision: bfloat16"
    ;;
mitra2024_vgg16_bn | mitra2024_vgg19_bn | mitra2024_resnet110 | mitra2024_preresnet110 | mitra2024_preresnet164)
    long "${name#mitra2024_}"
    ;;
dasilva2025_resnet50) imagenet resnet50/IMAGENET1K_V1 13 ;;
dasilva2025_resnet50_cifar100) imagenet resnet50/IMAGENET1K_V1 9 ;;
dasilva2025_vgg19) imagenet vgg19/IMAGENET1K_V1 15 ;;
dasilva2025_vgg19_cifar100) imagenet vgg19/IMAGENET1K_V1 10 ;;
dasilva2025_mobilenet_v2) imagenet mobilenet_v2/IMAGENET1K_V1 19 ;;
dasilva2025_mobilenet_v2_cifar100) imagenet mobilenet_v2/IMAGENET1K_V1 28 ;;
*)
    echo "baselines.sh: NAME must be one of the following, got '$name'" >&2
    usage
    ;;
esac

mkdir -p "$folder"
[ -f "$folder/$name/weights.safetensors" ] || shrinkproof compress "$network" "{finetune: {$training}}" --train "$data:train" \
    --set "classes=$classes" --set "preprocess=$preprocess" --root "$data=$cifar" \
    --out "$folder/$name" "$@"
# A copy that was cut off must not look like weights.
cp "$folder/$name/weights.safetensors" "$folder/$name.safetensors.part"
mv "$folder/$name.safetensors.part" "$folder/$name.safetensors"
echo "$folder/$name.safetensors"
