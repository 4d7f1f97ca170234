"""Pictures as inline SVG, drawn on the server: no script, no style attribute, prints and mails well.

Colours are CSS classes (`c-running` sets `--c`), so that the theme decides. Every text is escaped.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from markupsafe import Markup, escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 820, 258, 40, 10, 22

SHARE = Markup('<rect class="c-{}" x="{:.2f}%" width="{:.2f}%" height="6"><title>{}</title></rect>')
BAR = Markup('<svg class="mix" aria-hidden="true"><rect class="c-{}" width="{:.1f}%" height="6" rx="3"/></svg>')
TEXT = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
CHART = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="Jobs by status over time">{}</svg>')


def spark(values: Sequence[float | None], colour: str) -> Markup:
    """A small line without axes; nothing for fewer than two points."""
    known = [0.0 if value is None else float(value) for value in values]
    if len(known) < 2:
        return Markup("")
    low, high = min(known), max(known)
    step = 72 / (len(known) - 1)
    line = " ".join(
        f"{'L' if i else 'M'}{i * step:.1f} {24 - 22 * ((v - low) / (high - low) if high > low else 0.1):.1f}"
        for i, v in enumerate(known)
    )
    return Markup(
        '<svg class="spark c-{}" viewBox="0 0 72 26" aria-hidden="true">'
        '<path class="area" d="{} L72 26 L0 26 Z"/><path class="line" d="{}"/></svg>'
    ).format(colour, line, line)


def mix(parts: Sequence[tuple[str, float, str]]) -> Markup:
    """A bar of shares. Each part: (colour, amount, title)."""
    total = sum(amount for _, amount, _ in parts)
    if total <= 0:
        return Markup('<svg class="mix" aria-hidden="true"><rect class="empty" width="100%" height="6"/></svg>')
    drawn, x = Markup(""), 0.0
    for colour, amount, title in parts:
        if amount > 0:
            width = 100 * amount / total
            drawn += Markup(
                '<rect class="c-{}" x="{:.2f}%" width="{:.2f}%" height="6"><title>{}</title></rect>'
            ).format(colour, x, width, title)
            x += width
    told = ", ".join(title for _, amount, title in parts if amount > 0)
    return Markup('<svg class="mix" role="img" aria-label="{}">{}</svg>').format(told, drawn)


def bar(share: float, colour: str = "accent") -> Markup:
    """A single bar, `share` of 1 long."""
    return Markup(
        '<svg class="mix" aria-hidden="true"><rect class="c-{}" width="{:.1f}%" height="6" rx="3"/></svg>'
    ).format(colour, max(1.0, min(100.0, 100 * share)))


def gauge(share: float, colour: str) -> Markup:
    """As wide as a sparkline: how much of something is in use."""
    return Markup(
        '<svg class="spark gauge c-{}" viewBox="0 0 72 26" aria-hidden="true"><rect class="empty" y="16" width="72"'
        ' height="6" rx="3"/><rect y="16" width="{:.1f}" height="6" rx="3"/></svg>'
    ).format(colour, max(2.0, min(72.0, 72 * share)))


def nice(value: float) -> float:
    """The round number above `value` that an axis of four steps ends at."""
    if value <= 4:
        return 4.0
    power = 10 ** math.floor(math.log10(value / 4))
    return float(next(step for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * power * 4 >= value) * power * 4)


def _tick(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 10_000 else f"{value:,g}"


def stacked(
    times: Sequence[datetime],
    series: Sequence[tuple[str, str, Sequence[float]]],
    start: datetime,
    end: datetime,
    last: str = "now",
) -> Markup:
    """Stacked areas over time. Each series: (word, colour, a value for each of `times`), bottom first. `last`: what
    stands at the end of the axis, if not its time."""
    seconds = max(1.0, (end - start).total_seconds())
    top = nice(max((sum(column) for column in zip(*(values for *_, values in series), strict=True)), default=0))
    bottom_y, room = HEIGHT - BOTTOM, HEIGHT - BOTTOM - TOP
    xs = [LEFT + (WIDTH - LEFT - 6) * max(0.0, (at - start).total_seconds()) / seconds for at in times]

    drawn = Markup("")
    for k in range(5):
        y = bottom_y - room * k / 4
        drawn += Markup('<line class="gl" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>').format(LEFT, WIDTH - 6, y=y)
        drawn += Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
            LEFT - 6, y + 4, _tick(top * k / 4)
        )
    drawn += _areas(xs, series, room / top)
    for x, at, anchor in _time_ticks(start, end, last):
        drawn += Markup('<text x="{:.1f}" y="{}" text-anchor="{}">{}</text>').format(
            LEFT + (WIDTH - LEFT - 6) * x, HEIGHT - 4, anchor, at
        )
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="Jobs by status over time">{}</svg>'
    ).format(WIDTH, HEIGHT, drawn)


def _time_ticks(start: datetime, end: datetime, last: str) -> list[tuple[float, str, str]]:
    """(place from 0 to 1, text, text-anchor) of five moments."""
    span = end - start
    form = "%H:%M:%S" if span < timedelta(minutes=10) else "%H:%M" if span <= timedelta(hours=36) else "%d %b"
    found = []
    for k in range(5):
        at = start + (end - start) * k / 4
        found.append(
            (
                k / 4,
                last if last and k == 4 else at.astimezone(UTC).strftime(form),
                ("start", *["middle"] * 3, "end")[k],
            )
        )
    return found


def timeline(
    lanes: Mapping[str, Sequence[tuple[datetime, datetime, str]]],
    colours: Mapping[str, str],
    start: datetime,
    end: datetime,
) -> Markup:
    """A lane for each status, in the order of `lanes`; each piece: (from, until, text beside it)."""
    total = max(0.001, (end - start).total_seconds())
    row, label, track = 25, 12.5, 72.0  # px; % of the width for the words; % for the bars
    drawn = Markup("")
    height = row * len(lanes) + 18
    for k in range(5):
        x = label + track * k / 4
        drawn += Markup('<line class="gl" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="{}"/>').format(height - 18, x=x)
        at = start + (end - start) * k / 4
        form = "%H:%M:%S" if total < 1800 else "%H:%M" if total < 86_400 * 1.5 else "%d %b"
        drawn += Markup('<text x="{:.2f}%" y="{}" text-anchor="{}">{}</text>').format(
            x, height - 3, "start" if k == 0 else "middle", at.astimezone(UTC).strftime(form)
        )
    for k, (word, pieces) in enumerate(lanes.items()):
        y = row * k + 5
        drawn += Markup('<text class="word" x="0" y="{}">{}</text>').format(y + 12, word)
        for since, until, told in pieces:
            x = label + track * (since - start).total_seconds() / total
            width = max(0.35, track * (until - since).total_seconds() / total)
            inside = width > 30
            drawn += Markup('<rect class="c-{}" x="{:.2f}%" y="{}" width="{:.2f}%" height="15" rx="3"/>').format(
                colours.get(word, "waiting"), x, y, width
            )
            if told:
                drawn += Markup('<text class="{}" x="{:.2f}%" dx="7" y="{}">{}</text>').format(
                    f"inside on-{colours.get(word, 'waiting')}" if inside else "beside",
                    x if inside else x + width,
                    y + 12,
                    told,
                )
    return Markup('<svg class="lanes" height="{}" role="img" aria-label="{}">{}</svg>').format(
        height, escape("Time in each status: " + ", ".join(lanes)), drawn
    )


def histogram(
    bins: Sequence[tuple[datetime, int, int]],
    end: datetime,
    link: Callable[[datetime | None, datetime | None], str] | None = None,
) -> Markup:
    """When jobs changed. Each bin: (from, failed, others). `link`: to what changed in a span; each bar leads there."""
    if not bins:
        return Markup("")
    top = max(1, *(failed + others for _, failed, others in bins))
    step, height = 100 / len(bins), 46
    width = bins[1][0] - bins[0][0] if len(bins) > 1 else timedelta(seconds=1)
    drawn = Markup("")
    for k, (since, failed, others) in enumerate(bins):
        told = f"{since.astimezone(UTC).strftime('%d %b %H:%M:%S')}: {failed + others} jobs, {failed} failed"
        y, bar = float(height), Markup("")
        for n, colour in ((others, "activated"), (failed, "failed")):
            if n:
                tall = max(2.0, height * n / top)
                y -= tall
                bar += Markup(
                    '<rect class="c-{}" x="{:.2f}%" width="{:.2f}%" y="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
                ).format(colour, k * step + 0.1, step - 0.2, y, tall, told)
        if link and bar:
            bar = Markup('<a href="{}" aria-label="{}">{}</a>').format(link(since, since + width), told, bar)
        drawn += bar
    form = "%H:%M" if end - bins[0][0] <= timedelta(hours=36) else "%d %b"
    words = Markup('<text x="0" y="{}">{}</text><text x="100%" y="{}" text-anchor="end">{}</text>').format(
        height + 14, bins[0][0].astimezone(UTC).strftime(form), height + 14, end.astimezone(UTC).strftime(form)
    )
    span = Markup(' data-from="{}" data-until="{}" data-link="{}"').format(
        bins[0][0].timestamp(), (bins[-1][0] + width).timestamp(), link(None, None)
    ) if link else Markup("")  # fmt: skip
    return Markup(
        '<svg class="histogram" height="{}" role="{}" aria-label="When these jobs changed"{}>{}{}</svg>'
    ).format(height + 18, "group" if link else "img", span, drawn, words)


def curve(
    points: Sequence[tuple[datetime, float]], limit: float | None, colour: str, told: str, unit: str = ""
) -> Markup:
    """One quantity over time, with its limit as a dashed line."""
    if len(points) < 2:
        return Markup("")
    width, height, left = 420, 150, 44
    start, end = points[0][0], points[-1][0]
    seconds = max(1.0, (end - start).total_seconds())
    top = nice(max([value for _, value in points] + ([limit] if limit else [])))
    room = height - BOTTOM - TOP

    def place(at: datetime, value: float) -> str:
        x = left + (width - left - 6) * (at - start).total_seconds() / seconds
        return f"{x:.1f} {height - BOTTOM - room * value / top:.1f}"

    line = "M" + "L".join(place(at, value) for at, value in points)
    drawn = Markup("")
    for k in range(3):
        y = height - BOTTOM - room * k / 2
        drawn += Markup('<line class="gl" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>').format(left, width - 6, y=y)
        drawn += TEXT.format(left - 6, y + 4, "end", _tick(top * k / 2) + unit)
    drawn += Markup('<path class="area c-{}" d="{}L{} {}L{} {}Z"/><path class="line c-{}" d="{}"/>').format(
        colour, line, width - 6, height - BOTTOM, left, height - BOTTOM, colour, line
    )
    if limit:
        y = height - BOTTOM - room * limit / top
        drawn += Markup('<line class="limit" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>').format(left, width - 6, y=y)
    for at, x, anchor in ((start, left, "start"), (end, width - 6, "end")):
        drawn += TEXT.format(x, height - 5, anchor, at.astimezone(UTC).strftime("%H:%M:%S"))
    return Markup('<svg class="curve" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, told, drawn
    )


def heat(cells: Sequence[tuple[str, str, float | None]]) -> Markup:
    """Small squares, each a link: (link, what it tells, share from 0 to 1 that is bad, None: nothing known)."""
    drawn = Markup("")
    for link, told, share in cells:
        step = "none" if share is None else str(min(4, round(share * 4)))
        drawn += Markup('<a class="h{}" href="{}" title="{}"><span class="hid">{}</span></a>').format(
            step, link, told, told
        )
    return Markup('<div class="heat">{}</div>').format(drawn)


def _bars(
    dates: Sequence[date], series: Sequence[tuple[str, str, Sequence[float]]], step: float, scale: float
) -> Markup:
    drawn = Markup("")
    for k, day in enumerate(dates):
        y = float(HEIGHT - BOTTOM)
        for word, colour, values in series:
            tall = scale * values[k]
            if tall > 0:
                y -= tall
                drawn += Markup(
                    '<rect class="c-{}" x="{:.1f}" width="{:.1f}" y="{:.1f}" height="{:.1f}">'
                    "<title>{} {}: {:,.1f}</title></rect>"
                ).format(colour, LEFT + step * k + 1, max(1.0, step - 2), y, tall, day.isoformat(), word, values[k])
    return drawn


def _areas(
    xs: Sequence[float], series: Sequence[tuple[str, str, Sequence[float]]], scale: float, digits: int = 1
) -> Markup:
    """Stacked areas over the places `xs`, each named by its title; places are exact to so many digits."""
    drawn, below = Markup(""), [0.0] * len(xs)
    for word, colour, values in series:
        above = [b + v for b, v in zip(below, values, strict=True)]
        if any(values):
            upper = [f"{x:.{digits}f} {HEIGHT - BOTTOM - scale * v:.{digits}f}" for x, v in zip(xs, above, strict=True)]
            lower = [f"{x:.{digits}f} {HEIGHT - BOTTOM - scale * v:.{digits}f}" for x, v in zip(xs, below, strict=True)]
            path = "M" + "L".join(upper + lower[::-1]) + "Z"
            drawn += Markup('<path class="fill c-{}" d="{}"><title>{}</title></path>').format(colour, path, word)
        below = above
    return drawn


#: Colours for series without a meaning of their own, in this order.
PALETTE = ("activated", "running", "holding", "transferring", "finished", "failed", "cancelled", "sent", "waiting")


#: More bars than these are drawn as areas: they would be a pixel wide, and weigh more than the page.
MOST_BARS = 120


def daily(dates: Sequence[date], series: Sequence[tuple[str, str, Sequence[float]]], told: str) -> Markup:
    """A stack of bars for each of `dates`; areas if they are many. Each series: (word, colour, a value for each of
    `dates`), bottom first."""
    if not dates:
        return Markup("")
    top = nice(max((sum(column) for column in zip(*(values for *_, values in series), strict=True)), default=0))
    room, step = HEIGHT - BOTTOM - TOP, (WIDTH - LEFT - 6) / len(dates)
    drawn = Markup("")
    for k in range(5):
        y = HEIGHT - BOTTOM - room * k / 4
        drawn += Markup('<line class="gl" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>').format(LEFT, WIDTH - 6, y=y)
        drawn += TEXT.format(LEFT - 6, y + 4, "end", _tick(top * k / 4))
    if len(dates) > MOST_BARS:
        drawn += _areas([LEFT + step * (k + 0.5) for k in range(len(dates))], series, room / top, 0)
    else:
        drawn += _bars(dates, series, step, room / top)
    for k in (0, len(dates) // 2, len(dates) - 1):
        drawn += TEXT.format(LEFT + step * (k + 0.5), HEIGHT - 4, "middle", dates[k].strftime("%d %b"))
    return Markup('<svg class="chart bars" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, told, drawn
    )
