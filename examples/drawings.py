"""One picture of all targets that are drawn by code.

``python examples/drawings.py --out docs/drawings.png`` writes the picture of the documentation.
"""

import argparse
from pathlib import Path

from delira_nca.data_loading.sources import DRAWINGS, drawing, place
from delira_nca.visualization import film_strip, save_picture, to_rgb

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="use small drawings")
parser.add_argument("--size", type=int, default=36, help="cells along the longer side of a drawing")
parser.add_argument("--out", type=Path, default=Path("runs/drawings.png"))
options = parser.parse_args()

size = 12 if options.quick else options.size
names = [name for name in DRAWINGS if name != "dahlia"]  # the dahlia is cut out of a photograph
cells = [to_rgb(place(drawing(name, size), size + 4)) for name in names]
options.out.parent.mkdir(parents=True, exist_ok=True)
save_picture(film_strip(cells, columns=5, rows=None, gap=0), options.out, scale=4)
print(f"{', '.join(names)}:")
print(options.out)
