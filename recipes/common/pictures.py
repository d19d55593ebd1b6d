"""Pictures of results: a dot for each seed, and curves over training."""

import numpy as np

from .tables import label, titled


def new_figure(width, height):
    """A figure that needs no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def dots(parts, scores, path, reference=None, title=None):
    """A panel for each score, a row of them for each group: a dot for each seed, a line at the mean."""
    scores = titled(scores)
    wide = min(len(scores), 5)
    high = -(-len(scores) // wide)
    models = max(map(len, parts.values()))
    figure = new_figure(2 + 2.6 * wide, (1.2 + 0.3 * models) * high * len(parts) + 0.4)
    legend = "dot: a seed, line: their mean" + (f", dotted: {reference}" if reference else "")
    figure.suptitle(f"{title}\n{legend}" if title else legend, fontsize="medium")
    axes = figure.subplots(high * len(parts), wide, sharey=False, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for block, (words, results) in zip(np.split(axes, len(parts)), parts.items(), strict=True):
        for place, (axis, (score, title)) in enumerate(zip(block.flat, scores.items(), strict=False)):
            axis.set_axis_on()
            for y, found in enumerate(results.values()):
                axis.plot(found[score], np.full(len(found[score]), y), "o", color=f"C{y}", alpha=0.6, markersize=5)
                axis.plot(np.mean(found[score]), y, "|", color="black", markersize=14)
            if reference in results:
                axis.axvline(np.mean(results[reference][score]), color="black", linewidth=0.8, linestyle=":")
            axis.set_yticks(range(len(results)), map(label, results) if place % wide == 0 else [""] * len(results))
            axis.invert_yaxis()
            axis.set_title(f"{words}\n{title}" if words else title, fontsize="medium")
            axis.locator_params(axis="x", nbins=4)
            axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)


def curves(parts, scores, path, xlabel="epoch", every=1, middle=np.mean, **settings):
    """Curves over training: a panel for each group and score, for each model the middle and the range over seeds.

    Args:
        parts: Dict from a group's title to results, as of `trained`; a seed that ended early has a shorter list.
        scores: Dict from what there is a list of to its title.
        path: Path of the picture.
        xlabel: String.
        every: Number. What lies between two points.
        middle: Function of an array and an axis. Defaults to the mean.
        **settings: Properties of all axes, such as `yscale`.
    """
    panels = [(results, score, [words, title]) for words, results in parts.items() for score, title in scores.items()]
    figure = new_figure(1 + 4 * len(panels), 3.8)
    for axis, (results, score, titles) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for index, (name, found) in enumerate(results.items()):
            longest = max(map(len, found[score]))
            ended = [np.pad(np.float64(run), (0, longest - len(run)), constant_values=np.nan) for run in found[score]]
            values = np.ma.masked_invalid(ended)
            x = every * np.arange(1, longest + 1)
            axis.plot(x, middle(values, axis=0), color=f"C{index}", label=label(name))
            axis.fill_between(x, values.min(0), values.max(0), color=f"C{index}", alpha=0.15, linewidth=0)
        axis.set(title=": ".join(filter(None, titles)), xlabel=f"{xlabel}; middle and range over seeds", **settings)
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    figure.savefig(path, dpi=110)
