"""Training policies under `compile`: what is learned, logged, saved and refused."""

import gymnasium
import keras
import numpy as np
import pytest

import keras_mtl
from keras_mtl import rl

BEST = {"left": 0, "right": 2}


def build(builder=keras_mtl.hard_sharing, outputs=4, **options):
    heads = {task: keras.layers.Dense(outputs) for task in BEST}
    return builder(keras.Input((2,)), [keras.layers.Dense(8, activation="tanh")], heads, **options)


def environments(choice):
    return {task: lambda best=best: choice(best) for task, best in BEST.items()}


def compiled(loss=None, model=None, **options):
    model = model or build()
    model.compile(keras.optimizers.Adam(0.05), loss=loss or rl.ActorCriticLoss(), jit_compile=False, **options)
    return model


def share_of_best(model, envs):
    return {task: returns.mean() for task, returns in rl.evaluate(model, envs, episodes=50, seed=1).items()}


@pytest.mark.parametrize(
    ("model", "loss", "options"),
    [
        ("hard_sharing", rl.ActorCriticLoss(), {}),
        ("hard_sharing", rl.ActorCriticLoss(clip=0.2), {"passes": 2, "minibatches": 2}),
        ("distral", rl.DistralLoss(alpha=0.5, beta=20.0), {}),
    ],
    ids=["actor_critic", "clipped", "distral"],
)
def test_each_task_learns_its_own_action(model, loss, options, choice):
    envs = environments(choice)
    made = build() if model == "hard_sharing" else build(rl.distral)
    history = rl.train(
        compiled(loss, made), envs, epochs=3, rollouts_per_epoch=10, horizon=4, copies=8, seed=0, **options
    ).history
    assert history["left_steps"] == history["right_steps"] == [320, 640, 960]
    assert all(history[f"{task}_return"][-1] > 0.85 for task in BEST)
    assert all(value > 0.9 for value in share_of_best(made, envs).values())
    assert rl.evaluate(made, envs, episodes=5, greedy=True, seed=0)["right"].tolist() == [1.0] * 5


def test_weightings_on_task_gradients_and_one_seed(choice):
    histories = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        model = compiled(weighting="mgda", gradients="features")
        histories.append(rl.train(model, environments(choice), epochs=2, rollouts_per_epoch=3, seed=5).history)
    assert "left_weight" in histories[0] and "grad_cosine" in histories[0]
    for name, values in histories[0].items():
        assert values == histories[1][name], name


class OnlyLeft:
    def __init__(self):
        self.seen = []

    def probabilities(self, step, stats):
        self.seen.append((step, stats.recent("left_return", 10), stats.trained.tolist()))
        return {"left": 1.0, "right": 0.0}


def test_a_sampler_draws_the_task_of_each_rollout(choice):
    model, sampler = compiled(), OnlyLeft()
    before = [keras.ops.convert_to_numpy(v) for v in model.task_variables("right")]
    history = rl.train(
        model, environments(choice), epochs=2, rollouts_per_epoch=2, copies=3, horizon=5, sampler=sampler, seed=0
    ).history
    assert history["left_steps"] == [30, 60] and history["right_steps"] == [0, 0]
    assert np.isnan(history["right_return"]).all() and "right_loss" not in history
    for variable, value in zip(model.task_variables("right"), before, strict=True):
        np.testing.assert_array_equal(variable, value)
    steps, scores, trained = zip(*sampler.seen, strict=True)
    assert steps == (0, 1, 2, 3) and trained == ([0, 0], [1, 0], [2, 0], [3, 0])
    assert np.isnan(scores[0]) and 0 <= scores[1] <= 1


def test_active_sampling_goes_where_returns_are_short_of_their_targets(choice):
    """The left task is as good as its target at once; no action of the right one is ever worth anything."""
    envs = {"left": lambda: choice(0), "right": lambda: choice(-1)}
    sampler = keras_mtl.data.A5C({"left": 0.1, "right": 1.0}, monitor="{task}_return", window=2, minimum=0.1)
    history = rl.train(
        compiled(), envs, epochs=1, rollouts_per_epoch=30, copies=2, horizon=4, sampler=sampler, seed=0
    ).history
    assert history["right_steps"][0] > 3 * history["left_steps"][0] > 0
    assert history["right_steps"][0] + history["left_steps"][0] == 240


def test_callbacks_stop_and_see_logs(choice, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = logs["left_steps"] >= 256

    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history = rl.train(
        compiled(), environments(choice), epochs=5, rollouts_per_epoch=1, callbacks=[log, Stop()], seed=0
    )
    assert history.history["left_steps"] == [128, 256]
    assert "right_return" in (tmp_path / "log.csv").read_text()


def test_a_loaded_model_plays_and_goes_on(choice, tmp_path):
    envs = environments(choice)
    model = compiled(rl.DistralLoss(alpha=0.5, beta=20.0), build(rl.distral))
    rl.train(model, envs, epochs=1, rollouts_per_epoch=2, seed=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    logs = [rl.train(m, envs, epochs=1, rollouts_per_epoch=2, seed=1).history for m in (model, loaded)]
    assert logs[0]["loss"] == pytest.approx(logs[1]["loss"], rel=1e-5)
    x = np.ones((1, 2), "float32")
    np.testing.assert_allclose(loaded(x)["left"], model(x)["left"], rtol=1e-5)


class Drawn(gymnasium.Wrapper):
    render_mode = "rgb_array"

    def render(self):
        return np.full((4, 6, 3), 200, "uint8")


def test_frames_of_a_policy(choice, tmp_path):
    from PIL import Image

    model = compiled()
    frames = rl.record(model, "left", lambda: Drawn(choice(0)), tmp_path / "a.gif", episodes=2, seed=0)
    assert len(frames) == 4 and frames[0].shape == (4, 6, 3)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.size == (6, 4)
    with pytest.raises(ValueError, match="task 'left' should be made with render_mode='rgb_array'"):
        rl.record(model, "left", lambda: choice(0), tmp_path / "a.gif")


def refusals(choice):
    envs = environments(choice)
    other = {**envs, "right": lambda: choice(0, actions=5)}
    yield compiled(), other, "head of task 'right' should have 6 outputs for the 5 actions"
    yield compiled(), {"up": envs["left"]}, r"keys of `environments` should be tasks: \('left', 'right'\)"
    yield compiled(), {**envs, "left": lambda: choice(0, size=3)}, "observations of task 'left' should have the shapes"
    yield compiled(), {**envs, "left": "Pendulum-v1"}, "task 'left' should have `Discrete` actions"
    yield compiled(), {**envs, "left": lambda: 3}, "function without arguments that makes one. Received: 3"
    yield compiled("mse"), envs, "loss of task 'left' should be `keras_mtl.rl.ActorCriticLoss`"
    yield build(), envs, "`model` should be compiled"
    yield compiled(rl.DistralLoss()), envs, "head of task 'left' should have 7 outputs for the 3 actions"
    other = compiled(rl.DistralLoss(alpha=0.2), build(rl.distral, alpha=0.6))
    yield other, envs, "loss of task 'left' should have the model's alpha, 0.6. Received: alpha=0.2"


def test_bad_input_is_told_before_training(choice):
    for model, envs, message in refusals(choice):
        with pytest.raises(ValueError, match=message):
            rl.train(model, envs, epochs=1)
    sampler = keras_mtl.data.A5C({"left": 1.0}, monitor="{task}_return")
    with pytest.raises(ValueError, match="`targets` should have a number for each of the tasks"):
        rl.train(compiled(), environments(choice), epochs=1, sampler=sampler)
