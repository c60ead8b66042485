"""Page of a segmentation run: curves, cases, scores, plan and data in one HTML file."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from delira_nca.segmentation.judge import Judgement

__all__ = ["overlay", "render"]

_REFERENCE, _FOUND = (47, 168, 92), (240, 110, 40)
_SIDE = 360
"""Smallest side of an overlay in pixels."""
_ALARM = " <span class=alarm>alarm</span>"
_LIVE_PAGE = '<a href="live.html">Watch it segment</a>'
_NAMES = {"dice": "Dice", "iou": "IoU", "hd95": "HD95", "assd": "mean distance", "surface_dice": "surface Dice"}


def overlay(case: Judgement) -> npt.NDArray[np.uint8]:
    """Draw the outlines of reference (green) and prediction (orange) over an image, as an (H, W, 3) array.

    Of a volume, the slice along the last axis with the largest reference is drawn.
    """
    image: npt.NDArray[Any] = case.image
    reference: npt.NDArray[Any] = case.reference
    mask: npt.NDArray[Any] = case.mask
    if reference.ndim == 3:
        number = int(np.argmax((reference > 0).sum((0, 1))))
        image = np.rot90(image[..., number], axes=(-2, -1))
        reference, mask = (np.rot90(part[..., number]) for part in (reference, mask))
    channels = image if len(image) == 3 else np.repeat(image[:1], 3, axis=0)
    low, high = np.quantile(channels, (0.005, 0.995))
    grey = np.clip((channels - low) / max(high - low, 1e-6), 0, 1)
    by = max(1, -(-_SIDE // min(reference.shape)))
    picture: npt.NDArray[np.uint8] = (255 * np.moveaxis(grey, 0, -1)).astype(np.uint8).repeat(by, 0).repeat(by, 1)
    for classes, colour in ((reference, _REFERENCE), (mask, _FOUND)):
        large = classes.repeat(by, 0).repeat(by, 1)
        border = np.zeros(large.shape, bool)
        for axis in (0, 1):
            for step in (-1, 1):
                border |= (large != np.roll(large, step, axis)) & (large > 0)
        picture[ndimage.binary_dilation(border) & (large > 0) if by > 2 else border] = colour
    return picture


def _encoded(picture: npt.NDArray[np.uint8]) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).convert("RGB").save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _curve(title: str, lines: Mapping[str, Sequence[float]], colours: Sequence[str]) -> str:
    """Return a figure with one line for each series over the epochs."""
    width, height, left, bottom = 420, 190, 44, 22
    values = [v for line in lines.values() for v in line if math.isfinite(v)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    high = high if high > low else low + 1e-6
    count = max((len(line) for line in lines.values()), default=1)

    def place(number: int, value: float) -> str:
        x = left + (width - left - 8) * number / max(1, count - 1)
        return f"{x:.1f},{8 + (height - bottom - 8) * (1 - (value - low) / (high - low)):.1f}"

    parts = []
    for share in (0.0, 0.5, 1.0):
        y = 8 + (height - bottom - 8) * (1 - share)
        parts.append(f'<line x1="{left}" x2="{width - 8}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{low + share * (high - low):.2f}</text>')
    parts.append(f'<text x="{left}" y="{height - 4}">epoch 1</text>')
    parts.append(f'<text x="{width - 8}" y="{height - 4}" text-anchor="end">{count}</text>')
    for line, colour in zip(lines.values(), colours, strict=False):
        points = [place(number, value) for number, value in enumerate(line) if math.isfinite(value)]
        if len(points) == 1:
            across, down = points[0].split(",")
            parts.append(f'<circle cx="{across}" cy="{down}" r="3" fill="{colour}"/>')
        elif points:
            parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>')
    keys = "".join(
        f'<span class="key" style="background:{colour}"></span>{html.escape(name)}'
        for name, colour in zip(lines, colours, strict=False)
    )
    drawing = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}">{"".join(parts)}</svg>'
    return f"<figure>{drawing}<figcaption>{html.escape(title)}{keys}</figcaption></figure>"


def _scatter(found: Sequence[Judgement], alarm: float | None) -> str:
    """Return a figure of doubt against Dice score."""
    width, height, left, bottom = 420, 230, 44, 34
    highest = max([case.doubt for case in found if math.isfinite(case.doubt)] + [alarm or 0.0, 1e-6]) * 1.05

    def x(doubt: float) -> float:
        return left + (width - left - 8) * min(doubt, highest) / highest

    def y(dice: float) -> float:
        return 8 + (height - bottom - 8) * (1 - dice)

    parts = [
        f'<line x1="{left}" x2="{width - 8}" y1="{y(share):.1f}" y2="{y(share):.1f}" stroke="var(--line)"/>'
        f'<text x="{left - 6}" y="{y(share) + 4:.1f}" text-anchor="end">{share:g}</text>'
        for share in (0, 0.5, 1)
    ]
    if alarm is not None:
        parts.append(
            f'<line x1="{x(alarm):.1f}" x2="{x(alarm):.1f}" y1="8" y2="{y(0):.1f}" stroke="var(--two)"'
            ' stroke-dasharray="4 3"/>'
        )
    parts += [
        f'<circle cx="{x(case.doubt):.1f}" cy="{y(case.dice):.1f}" r="4" fill="var(--one)" fill-opacity=".75">'
        f"<title>{html.escape(case.name)}: Dice {case.dice:.3f}, doubt {case.doubt:.3f}</title></circle>"
        for case in found
        if math.isfinite(case.doubt)
    ]
    parts.append(f'<text x="{left}" y="{height - 18}">0</text>')
    parts.append(f'<text x="{width - 8}" y="{height - 18}" text-anchor="end">doubt {highest:.2g}</text>')
    drawing = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Dice against doubt">{"".join(parts)}</svg>'
    note = "" if alarm is None else " The dashed line is the alarm: cases to the right of it should be looked at."
    return (
        f"<figure>{drawing}<figcaption>Dice score of each case against the doubt about it.{note}</figcaption></figure>"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]], numbers: int = 0) -> str:
    """Return a table, the last ``numbers`` columns of which are numbers."""

    def cells(row: Sequence[Any], tag: str) -> str:
        first = len(row) - numbers
        return "".join(f"<{tag}{' class=n' if at >= first else ''}>{cell}</{tag}>" for at, cell in enumerate(row))

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{cells(head, "th")}</tr></thead><tbody>{body}</tbody></table></div>'


def _cases(found: Sequence[Judgement]) -> str:
    ranked = sorted(found, key=lambda case: case.dice)
    chosen = {"best": ranked[-1], "middle": ranked[len(ranked) // 2], "worst": ranked[0]}
    shown: dict[str, list[str]] = {}
    for word, case in chosen.items():
        shown.setdefault(case.name, []).append(word)
    by_name = {case.name: case for case in found}
    figures = [
        f'<figure><img src="{_encoded(overlay(by_name[name]))}" alt="Outlines over the image of {html.escape(name)}">'
        f"<figcaption>{html.escape(name)}, {' and '.join(words) if len(found) > 1 else 'the only case'}: Dice "
        f"{by_name[name].dice:.3f}, doubt {by_name[name].doubt:.3f}</figcaption></figure>"
        for name, words in shown.items()
    ]
    keys = "".join(
        f'<span class="key" style="background:rgb{colour}"></span>{name}'
        for name, colour in (("reference", _REFERENCE), ("prediction", _FOUND))
    )
    return f'<h2>Cases</h2><p class="soft">Outlines:{keys}</p><div class="cases">{"".join(figures)}</div>'


def _scores(found: Sequence[Judgement], summary: Mapping[str, Any], names: Mapping[str, str]) -> str:
    head = ["class", "cases", *_NAMES.values()]
    rows = []
    for value, mean in summary["mean"].items():
        cells = [
            f"{_number(mean[name])}<br><span class=soft>{_number(summary['interval'][value][name][0])} to "
            f"{_number(summary['interval'][value][name][1])}</span>"
            for name in _NAMES
        ]
        rows.append([html.escape(names.get(value, value)), str(summary["num_cases_with_class"][value]), *cells])
    alarm = summary["alarm"]
    each = [
        [
            html.escape(case.name)
            + (" <span class=alarm>alarm</span>" if alarm is not None and case.doubt > alarm else ""),
            *(_number(_mean([row[name] for row in case.scores.values()])) for name in _NAMES),
            _number(case.doubt),
        ]
        for case in sorted(found, key=lambda case: case.dice)
    ]
    told = []
    if summary["doubt_correlation"] is not None:
        told.append(f"Doubt and Dice correlate with {summary['doubt_correlation']:.2f}.")
    if summary["failure_auroc"] is not None:
        told.append(f"The doubt tells failures from other cases with an AUROC of {summary['failure_auroc']:.2f}.")
    return (
        f"<h2>Scores of the {f'{len(found)} held-out cases' if len(found) > 1 else 'held-out case'}</h2>"
        "<p class=soft>Means with 95 % intervals over the cases with the class; distances in mm, or in cells without a "
        "spacing, of the cases in which it was found.</p>"
        + _table(head, rows, len(_NAMES) + 1)
        + f'<div class="curves">{_scatter(found, alarm)}</div><p class=soft>{" ".join(told)}</p>'
        + (f"<p>{_objects(summary['instances'])}</p>" if summary["instances"] else "")
        + _table(["case, the worst first", *_NAMES.values(), "doubt"], each, len(_NAMES) + 1)
    )


def _objects(means: Mapping[str, float]) -> str:
    return (
        f"Objects (connected components) per case: {means['found']:.1f} found, {means['numbered']:.1f} in the masks; "
        f"F1 {_number(means['f1'])} at an IoU of 0.5, panoptic quality {_number(means['pq'])}."
    )


def _steps(sweep: Mapping[str, Any]) -> str:
    """Return the scores by number of steps, and the best settings."""
    horizon, dice, best = sweep["horizon"], sweep["dice_by_steps"], sweep["best"]
    last = max(dice)
    verdict = (
        f"The network is stable: after {last} steps its score is {dice[last]:.3f}."
        if sweep["is_stable"]
        else f"The network is not stable beyond its horizon: after {last} steps its score is {dice[last]:.3f}, so that "
        f"it has to stop after {horizon}. --stable trains for longer roll-outs."
    )
    told = [f"{best['steps']} steps"]
    if best["threshold"] is not None:
        told.append(f"threshold {best['threshold']:g}")
    told.append(f"components of at least {best['min_size']} cells")
    rows = [
        [f"{number}" + (" (horizon)" if number == horizon else ""), _number(score)] for number, score in dice.items()
    ]
    return (
        f"<h2>Number of steps</h2><p class=soft>Mean Dice of the held-out cases after several numbers of steps of the "
        f"finest level, each case rolled out once. {verdict}</p>{_table(['steps', 'Dice'], rows, 1)}"
        f"<p class=soft>Best of all settings on these cases: {', '.join(told)}, Dice {best['dice']:.3f}. "
        "'delira-nca predict --tuned' uses them; with few held-out cases, prefer the defaults.</p>"
    )


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _mean(values: Sequence[float]) -> float:
    found = [value for value in values if not math.isnan(value)]
    return float(np.mean(found)) if found else float("nan")


def render(
    *,
    title: str,
    status: str,
    refresh: int | None,
    history: Sequence[Mapping[str, Any]],
    found: Sequence[Judgement],
    summary: Mapping[str, Any] | None,
    plan: Sequence[tuple[str, str, str]],
    data: Sequence[tuple[str, str]],
    class_names: Mapping[str, str],
    no_page: str | None = None,
) -> str:
    """Return the page.

    Parameters
    ----------
    title, status : str
        Title, and the sentence below it.
    refresh : int, optional
        Seconds after which a browser loads the page again; None for a finished run.
    history : sequence of mapping
        Epochs of the training.
    found, summary : sequence of Judgement, and mapping, optional
        Judged cases, and the result of :func:`~delira_nca.segmentation.judge.summarise` at the end.
    plan : sequence of (name, value, reason)
        Choices of the plan.
    data : sequence of (name, value)
        Facts of the data set.
    class_names : mapping of str to str
        Names of the classes by value.
    no_page : str, optional
        Reason why there is no live page, empty if there is one; None before the end of the training.
    """
    last = dict(history[-1]) if history else {}
    numbers = [("epoch", str(last.get("epoch", 0)))]
    if "val_dice" in last:
        numbers.append(("best Dice in training", f"{max(row.get('val_dice', 0) for row in history):.3f}"))
    if summary is not None:
        numbers[1:] = [("Dice of held-out cases", f"{summary['dice']:.3f}")]
        first = next(iter(summary["mean"].values()))
        numbers += [("HD95", _number(first["hd95"])), ("surface Dice", _number(first["surface_dice"]))]
    body = []
    if no_page is not None:
        body.append(f"<p>{f'There is no live page: {html.escape(no_page)}.' if no_page else _LIVE_PAGE}</p>")
    if history:
        losses = {n: [row[n] for row in history if n in row] for n in ("loss", "val_loss")}
        dice = {n: [row[n] for row in history if n in row] for n in ("dice", "val_dice")}
        colours = ("var(--two)", "var(--one)")
        told = {"loss": "training", "val_loss": "validation", "dice": "training", "val_dice": "validation"}
        curves = [
            _curve(name, {told[key]: line for key, line in lines.items() if line}, colours)
            for name, lines in (("Dice score", dice), ("loss", losses))
        ]
        body.append(f'<h2>Training</h2><div class="curves">{"".join(curves)}</div>')
    if found:
        body.append(_cases(found))
    if summary is not None:
        body.append(_scores(found, summary, class_names))
        body.append(_steps(summary["sweep"]))
    rows = [[f"<code>{html.escape(n)}</code>", f"<code>{html.escape(v)}</code>", html.escape(r)] for n, v, r in plan]
    body.append("<h2>Plan</h2>" + _table(["entry", "value", "reason"], rows))
    body.append("<h2>Data</h2>" + _table(["", ""], [[html.escape(n), html.escape(v)] for n, v in data]))
    template = files("delira_nca.segmentation").joinpath("report.html").read_text(encoding="utf-8")
    return template.format(
        title=html.escape(title),
        status=html.escape(status),
        refresh="" if refresh is None else f'<meta http-equiv="refresh" content="{refresh}">',
        numbers="".join(f"<li>{html.escape(name)}<b>{html.escape(value)}</b></li>" for name, value in numbers),
        body="\n".join(body),
    )
