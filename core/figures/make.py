"""All figures of a run, one after the other."""

import os
from collections.abc import Callable

from matplotlib import rc_context
from matplotlib.figure import Figure
from torchpack.utils.config import Config
from torchpack.utils.logging import logger

from core.figures.birds_eye_view import birds_eye_view_figure
from core.figures.confusion import confusion_figure
from core.figures.projection import projection_figure
from core.figures.pseudo_labels import pseudo_label_figure
from core.figures.results import results_figure
from core.figures.sources import Missing, Sources
from core.figures.style import STYLE, save_figure
from core.figures.superpixels import superpixel_figure
from core.figures.training import training_figure

FIGURES: dict[str, Callable[[Sources], Figure]] = {
    "projection": projection_figure,
    "birds_eye_view": birds_eye_view_figure,
    "superpixels": superpixel_figure,
    "pseudo_labels": pseudo_label_figure,
    "confusion_matrix": confusion_figure,
    "results": results_figure,
    "training": training_figure,
}


def make_figures(config: Config, run_dir: str, prediction_dir: str | None, output_dir: str) -> list[str]:
    """Draws every figure whose ingredients are there; the log names the others and what they lack.

    Args:
        config: of the run; names the data root, the weak labels and the superpixels.
        run_dir: with pseudo-labels, results.json and scalars.jsonl, each as far as the run got.
        prediction_dir: predictions of the split val, as `eval_miou.py --save-predictions` writes them; or None.
        output_dir: where the PNG files go.
    Returns the paths of the files written.
    Raises UserError for a file that is there but damaged, or of another frame or data set.
    """
    sources = Sources(config, run_dir, prediction_dir)
    written = []
    for name, make in FIGURES.items():
        path = os.path.join(output_dir, f"{name}.png")
        try:
            with rc_context(STYLE):
                save_figure(make(sources), path)
        except Missing as reason:
            logger.info(f"{name}.png skipped: {reason}")
            continue
        written.append(path)
    return written
