"""Sort a folder of images by classes that you name, without training: each image by itself, then all at once.

    python examples/zero_shot.py scenes/ --encoder skyclip-vit-b-32 --classes Airport "Bare land" Farmland Port

With a folder a class, the folders' names are the classes if none are given, and the accuracy is told.
"""

import argparse

import geovlm as gv

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder")
parser.add_argument("--encoder", default="skyclip-vit-b-32", help="a preset, a folder, a checkpoint")
parser.add_argument("--classes", nargs="+")
parser.add_argument("--templates", default="overhead", help="a set of prompts: see geovlm.prompts.TEMPLATES")
parser.add_argument("--out", default="classes.csv")
arguments = parser.parse_args()

encoder, scenes = gv.load_encoder(arguments.encoder), gv.FolderSource(arguments.folder)
for method in ("inductive", "transductive"):
    found = gv.zero_shot(encoder, scenes, classes=arguments.classes, templates=arguments.templates, method=method)
    print(f"{method}: {found}")
found.to_pandas().to_csv(arguments.out, index=False)
print(f"The class of every image is in {arguments.out}.")
