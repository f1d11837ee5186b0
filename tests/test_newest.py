"""The whole way on a tiny city, from its making to an evaluation: for environments other than the pinned one, too."""

import numpy as np

from tests.entry import ASSOP2P, run_script


def test_labels_training_estep_and_evaluation(prepared, trained, tmp_path):
    checkpoint = trained / "checkpoints/max-iou-vox-val.pt"
    predictions = tmp_path / "predictions"
    words = ["--weight-path", checkpoint, "--run-dir", tmp_path, "--save-predictions", predictions]
    run_script("eval_miou", ASSOP2P, *words, *prepared.words())
    assert len(list((trained / "pseudo_labels_0").glob("*.npz"))) == 4
    (first, *others) = sorted(predictions.glob("*.bin"))
    assert len(others) == 1 and np.fromfile(first, np.uint8).max() <= 16
