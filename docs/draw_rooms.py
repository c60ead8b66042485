"""Draw the rooms of the package, each one floor above the highest room that it imports from.

``python docs/draw_rooms.py`` writes ``docs/rooms.svg``. Rooms and imports are read from the sources.
"""

import ast
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "delira_nca"
PICTURE = HERE / "rooms.svg"
NO_ROOMS = {"__init__", "_lazy", "_version"}

WIDTH, MARGIN, LABELS = 820, 20, 70
BOX_WIDTH, BOX_HEIGHT, GAP, FLOOR_HEIGHT = 160, 52, 20, 88
STYLE = """
  text { font: 13px system-ui, "DejaVu Sans", sans-serif; fill: #1f2933 }
  .name { font-weight: 600; font-size: 14px }
  .lines, .floor, .note { fill: #52606d; font-size: 12px }
  .box { fill: #ffffff; stroke: #486581; stroke-width: 1.2 }
  .size { fill: #9fb3c8 }
  .import { fill: none; stroke: #829ab1; stroke-width: 1.3 }
"""
NOTES = [
    "A line leads from a room up to one that imports from it; what a room also reaches through another is not drawn.",
    "The bar shows the lines of source code, against the largest room.",
]


def read_rooms(package=PACKAGE):
    """Lines and imported rooms of each room."""
    lines, imports = {}, {}
    for path in sorted(package.rglob("*.py")):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        room = parts[1]
        if room in NO_ROOMS:
            continue
        source = path.read_text(encoding="utf-8")
        lines[room] = lines.get(room, 0) + source.count("\n")
        imports.setdefault(room, set()).update(imported_rooms(ast.parse(source), parts))
    return lines, {room: (others & set(lines)) - {room} for room, others in imports.items()}


def imported_rooms(tree, parts):
    """Rooms that the imports of a module name, wherever they stand in it."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*(parts[: -node.level] if node.level else ()), *(node.module.split(".") if node.module else ())]
            names = [[*base, alias.name] for alias in node.names]
        yield from (name[1] for name in names if name[0] == parts[0] and len(name) > 1)


def reached(room, imports):
    """All rooms below a room."""
    return imports[room].union(*(reached(other, imports) for other in imports[room]))


def floors_of(imports):
    """Rooms of each floor, from the ground up."""
    floors, left = [], set(imports)
    while left:
        floor = {room for room in left if not imports[room] & left}
        if not floor:
            raise SystemExit(f"these rooms import each other: {', '.join(sorted(left))}")
        floors.append(sorted(floor))
        left -= floor
    return floors


def in_order(floors, imports):
    """Order the rooms of each floor by where the rooms that they import from stand, so that few lines cross."""
    place = {}
    for floor in floors:
        mean = {room: sum(place[other] for other in imports[room]) / max(1, len(imports[room])) for room in floor}
        floor.sort(key=lambda room: (mean[room], room))
        place.update((room, number - (len(floor) - 1) / 2) for number, room in enumerate(floor))
    return place


def draw(package=PACKAGE):
    """Source of the picture."""
    lines, imports = read_rooms(package)
    direct = {
        room: others - set().union(*(reached(other, imports) for other in others)) for room, others in imports.items()
    }
    floors = floors_of(imports)
    place = in_order(floors, direct)
    middle = LABELS + (WIDTH - LABELS) / 2
    height = 2 * MARGIN + FLOOR_HEIGHT * len(floors) + 20 * len(NOTES)
    top = {room: MARGIN + FLOOR_HEIGHT * (len(floors) - 1 - n) for n, floor in enumerate(floors) for room in floor}
    centre = {room: round(middle + place[room] * (BOX_WIDTH + GAP)) for room in lines}
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f"<title>The rooms of {package.name}, by floors</title>",
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#f5f7fa"/>',
    ]
    for room in sorted(direct):
        for other in sorted(direct[room]):
            svg.append(line(other, room, centre, top))
    for number, floor in enumerate(floors):
        y = top[floor[0]] + BOX_HEIGHT / 2 + 4
        svg.append(f'<text class="floor" x="{MARGIN}" y="{y:g}">{f"floor {number}" if number else "ground"}</text>')
        svg += [box(room, lines[room], max(lines.values()), centre[room], top[room]) for room in floor]
    y = height - MARGIN - 20 * (len(NOTES) - 1)
    svg += [f'<text class="note" x="{MARGIN}" y="{y + 20 * n}">{note}</text>' for n, note in enumerate(NOTES)]
    return "\n".join([*svg, "</svg>", ""])


def line(lower, upper, centre, top):
    """Line from a room straight up to below the floor of the other, and there to its box."""
    below = top[upper] + BOX_HEIGHT
    start, bend, end = centre[lower], below + FLOOR_HEIGHT - BOX_HEIGHT, centre[upper]
    half = (below + bend) / 2
    return (
        f'<path class="import" d="M{start},{top[lower]} V{bend} C{start},{half:g} {end},{half:g} {end},{below}">'
        f"<title>{upper} imports from {lower}</title></path>"
    )


def box(room, lines, most, centre, top):
    """Box of a room: its name, its lines in words and as a bar."""
    left, bar = centre - BOX_WIDTH // 2, max(2, round((BOX_WIDTH - 20) * lines / most))
    count = f"{round(lines, -2):,}".replace(",", "\u202f") if lines >= 100 else "fewer than 100"
    return (
        f'<g id="{room}"><rect class="box" x="{left}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"/>'
        f'<text class="name" x="{centre}" y="{top + 20}" text-anchor="middle">{room}</text>'
        f'<text class="lines" x="{centre}" y="{top + 36}" text-anchor="middle">{count} lines</text>'
        f'<rect class="size" x="{left + 10}" y="{top + 43}" width="{bar}" height="4" rx="2"/></g>'
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
