"""Loss curves as a picture."""

from __future__ import annotations

from pathlib import Path

__all__ = ["plot_curves"]


def plot_curves(path: Path, histories: dict[str, list[dict[str, float]]]) -> None:
    """One panel a run: the loss, and the IoU on held-out shapes beside it.

    Args:
        path: of the PNG.
        histories: what ``running.Run.history`` is, by name of the run.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(histories), 3.0), layout="constrained", dpi=90)
    panels = figure.subplots(1, len(histories), squeeze=False)[0]
    for axes, (name, history) in zip(panels, histories.items(), strict=True):
        axes.plot(
            [row["step"] for row in history], [row["loss"] for row in history], "C0", linewidth=0.8
        )
        axes.set(title=name, xlabel="step", ylabel="loss", yscale="log")
        checked = [row for row in history if "held_out_iou" in row]
        other = axes.twinx()
        other.plot(
            [row["step"] for row in checked], [row["held_out_iou"] for row in checked], "C1.-"
        )
        other.set(ylabel="IoU on shapes not trained on", ylim=(0, 1))
        other.yaxis.label.set_color("C1")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
