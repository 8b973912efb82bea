"""Random views of training images: cropped and flipped, then colours, blur, rain, fog, a policy and erasing.

    TrainTransform   uint8 [3, H, W] each, one seed each -> uint8 [n, 3, S, S]     train.py
    = RandomCrop     per image, on the CPU: crop, resize, flip                     crop.py
    + RandomLooks    per batch, on any device: all that follows                    looks.py

A view depends only on the decoded image, the settings and its seed, so that the number of workers, their order, the
size of a block and a resume change nothing. All random numbers of a block are drawn at once (`draws.py`).
"""
