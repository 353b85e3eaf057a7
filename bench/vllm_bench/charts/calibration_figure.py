"""The client's own error against the number of streams, drawn."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from ..summary.calibration import Calibration
from .pen_matplotlib import Heading, level_axis, new_figure, plain_numbers
from .style import in_style

TTFT = (("ttft_error_mean_ms", "TTFT mean", "o", "-"), ("ttft_error_p99_ms", "TTFT p99", "s", "--"))
STAMP = (("stamp_p50_ms", "token p50", "^", "-"), ("stamp_p99_ms", "token p99", "D", "--"))


def calibration_figure(rows: Sequence[Calibration], machine: str) -> Figure:
    """Return two panels: the error of TTFT, and of a single token's stamp, in ms."""
    heading = Heading("The client's own error", machine, "against the simulator's own record")
    with in_style() as look:
        figure, axes = new_figure(heading, 2)
        for place, (panel, lines) in enumerate(zip(axes, (TTFT, STAMP), strict=True)):
            for number, (name, label, marker, line) in enumerate(lines):
                points = [(r.streams, getattr(r, name)) for r in rows]
                known = [(x, y) for x, y in points if y is not None]
                panel.plot(
                    [x for x, _ in known],
                    [y for _, y in known],
                    label=label,
                    marker=marker,
                    linestyle=line,
                    color=look.series[2 * place + number],
                )
            panel.set_ylim(bottom=0)
            panel.set_ylabel(("TTFT" if place == 0 else "a token's stamp") + "\nerror (ms)")
            panel.yaxis.set_major_formatter(plain_numbers())
            panel.legend(loc="upper left")
        level_axis(axes[-1], [(r.streams, str(r.streams)) for r in rows])
        axes[-1].set_xlabel("concurrent streams")
    return figure
