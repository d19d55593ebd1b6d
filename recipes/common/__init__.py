"""What the recipes share: one command line, one loop over models and seeds, one table, one verdict, one picture.

A recipe reads its options with `command_line` and hands a function `(name, seed, callbacks) -> scores` to `study`,
which does the rest; what it writes goes to runs/<name of the recipe>/ in the working directory. Where the scores are
logs of `evaluate` on data that no seed draws anew, `compared` takes functions that build models instead, and
`keras_mtl.analysis.compare` keeps what was trained.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # recipes import this first, before TensorFlow comes in

import tensorflow as tf

from .pictures import curves, dots, new_figure
from .running import SINGLE, command_line, compared, convolutions, progress, start_again, study, summarize, trained
from .tables import (
    area_under_roc,
    by_group,
    clocked,
    console,
    delta_m,
    in_turns,
    may_state,
    mean_and_spread,
    over_seeds,
    print_table,
    report,
    steps_until,
    tell_apart,
)

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are compiled one after the other
