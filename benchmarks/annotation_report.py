"""Table and curves of `benchmarks.annotation`."""

import glob
import json
import os
from collections import defaultdict
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.common import machine, table
from core.figures.style import INK, SERIES, new_figure, save_figure
from core.running.files import write_atomic, write_json

RESULT = "result.json"
Panels = dict[tuple[str, int], dict[str, dict[float, dict[int, dict[str, Any]]]]]
"""{(data set, window): {order: {share: {seed: result}}}}"""


def write_report(run_dir: str) -> str:
    return ""
