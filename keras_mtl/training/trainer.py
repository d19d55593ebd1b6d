"""The compile/fit seam: what a multi-task model adds to Keras' trainer."""

import keras
import numpy as np
from keras import ops

from keras_mtl.training.compiled import Compiled
from keras_mtl.training.epoch import EndOfEpoch, raise_nonfinite, with_callback


class TaskTrainer(keras.Model):
    """`compile`, `fit` and their kin for a functional model with tasks.

    A base of `MultiTaskModel`, which has `tasks`, a tuple of names, `sharing`,
    and `_weightings` and `_penalties`, tracked lists.
    """

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
        auto_scale_loss=True,
        *,
        weighting="equal",
        gradients="parameters",
        gramian_fraction=1.0,
        missing=None,
        class_weight=None,
        sample_space=None,
        diagnostics=False,
        delta_m=None,
        on_nonfinite="raise",
        penalties=None,
    ):
        """Configures the model for training.

        Args:
            optimizer: String or `keras.optimizers.Optimizer`.
            loss: Dict from task to loss, as Keras takes them; a task that is
                left out is not trained. Or one loss for all tasks.
            loss_weights: Dict from task to number, the static weights. Tasks
                that are left out weigh 1. A dynamic weighting sees the losses
                times their static weights.
            metrics: Dict from task to a list of metrics, over the labelled
                examples. Tasks may be left out.
            weighted_metrics: Same, with sample and class weights.
            run_eagerly: Boolean. As in Keras.
            steps_per_execution: Integer. As in Keras.
            jit_compile: Boolean or `"auto"`. As in Keras.
            auto_scale_loss: Boolean. As in Keras.
            weighting: String (see `keras_mtl.weighting.names()`), a
                `keras_mtl.weighting.Weighting` or its config. What sets the
                task weights during training. Defaults to `"equal"`.
            gradients: `"parameters"`, `"last_shared"` or `"features"`. Where
                weightings that see task gradients take them: all shared
                parameters, those of the last shared layer, or the shared
                features, which costs one backward pass of the trunk instead
                of one for each task. Gradients of features count what flows
                through later shared features too. Defaults to `"parameters"`.
            gramian_fraction: Float above 0, at most 1. The part of each batch
                that the Gramian is computed from, with a forward and K backward
                passes of its own, which move no statistics of layers; one
                weighted backward pass over the whole batch follows. Cheaper
                with many tasks, and noisier. Defaults to `1.0`.
            missing: `"nan"`, a number, or a dict from task to one of them. The
                label that means "missing". Defaults to `None`.
            class_weight: Dict from task to a dict from class to weight. In
                training only.
            sample_space: Dict from task to another task: train and evaluate
                the one only where the other's label is 1.
            diagnostics: Boolean. Whether to log `grad_cosine_<task>_<task>`
                for every pair of tasks and `conflict_rate`, the share of pairs
                whose gradients have a negative cosine. By-products of
                weightings that see task gradients, where `gradients` takes
                them; others refuse. Defaults to `False`.
            delta_m: `keras_mtl.metrics.DeltaM`, or a dict of the single-task
                baselines that it takes. Logs the mean relative gain over them.
            on_nonfinite: `"raise"`, `"skip_task"` or `"skip_step"`. What to do
                when a loss or gradient is NaN or infinite. `"raise"`: stop with
                a `FloatingPointError` that names the tasks, the model being as
                it was before that step. `"skip_step"`: leave such steps out, as
                if their batch had not come. `"skip_task"`: leave the task out
                of such steps and train the others, whose gradients are taken
                apart for it; a step is left out where nothing finite remains.
                Both log `<task>_nonfinite` and `skipped_steps`, the numbers of
                steps in an epoch, and warn. Defaults to `"raise"`.
            penalties: Dict from task to a penalty or a list of them, such as
                those of `keras_mtl.fairness`. What they read beside the labels
                is an entry of `y`.

        Raises:
            ValueError: If a task or name is unknown, a weighting needs shared
                trainable variables and there are none, or `diagnostics` is
                asked of a weighting that sees no task gradients.
        """
        # Checked first, so that a refused call leaves the model as it was.
        options = {
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            "weighting": weighting,
            "gradients": gradients,
            "gramian_fraction": gramian_fraction,
            "missing": missing,
            "class_weight": class_weight,
            "sample_space": sample_space,
            "delta_m": delta_m,
            "diagnostics": diagnostics,
            "on_nonfinite": on_nonfinite,
            "penalties": penalties,
        }
        compiled = Compiled(self, options)
        super().compile(
            optimizer=optimizer,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=auto_scale_loss,
        )
        self._weightings.clear()
        self._weightings.append(compiled.weighting)
        self._penalties.clear()
        self._penalties.extend(penalty for _, penalty in compiled.penalties.all)
        self.compiled_tasks = compiled
        _exclude_from_weight_decay(self.optimizer, compiled.weighting.trainable_variables)
        self._step_options = {
            "run_eagerly": run_eagerly,
            "steps_per_execution": steps_per_execution,
            "jit_compile": jit_compile,
            "auto_scale_loss": auto_scale_loss,
        }

    def task_weights(self):
        """The static task weights as they are now.

        Returns:
            Dict from task to number.
        """
        values = ops.convert_to_numpy(self.compiled_tasks.static_weights.value)
        return dict(zip(self.compiled_tasks.tasks, values.tolist(), strict=True))

    def set_task_weights(self, weights):
        """Changes static task weights from the next step on.

        A task of weight 0 is left out: weightings treat it as absent.

        Args:
            weights: Dict from task to number; other tasks keep theirs.
        """
        self.compiled_tasks.static_weights.assign(
            self.compiled_tasks.checked_static_weights({**self.task_weights(), **weights})
        )

    def get_compile_config(self):
        if not self.compiled:
            return {}
        optimizer = self.optimizer
        return {
            "optimizer": keras.saving.serialize_keras_object(optimizer),
            **self._step_options,
            **self.compiled_tasks.get_config(),
        }

    def compile_from_config(self, config):
        config = {key: keras.saving.deserialize_keras_object(value) for key, value in config.items()}
        self.compile(**config)
        if self.optimizer is not None and self.built:
            self.build_optimizer()

    @property
    def weighting(self):
        """The weighting that the model was compiled with."""
        return self.compiled_tasks.weighting

    @property
    def metrics(self):
        others = [metric for metric in super().metrics if metric.name != "loss"]
        if not self.compiled:
            return others
        own = self.compiled_tasks.evaluation_metrics if self._evaluating else self.compiled_tasks.metrics
        return [*own, *others]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The static-weights total of a batch, and what layers and penalties add to it."""
        del x
        compiled = self.compiled_tasks
        batch = compiled.task_losses(y, y_pred, sample_weight, training)
        means = ops.divide_no_nan(ops.stack(batch.sums), batch.divisors)
        penalties = compiled.penalties(batch, training).total if compiled.penalties else 0.0
        return ops.sum(means * compiled.static_weights) + sum(self.losses) + penalties

    def train_step(self, data):
        from keras_mtl.training.tensorflow import steps

        return steps.train_step(self, data)

    def test_step(self, data):
        from keras_mtl.training.tensorflow import steps

        return steps.test_step(self, data)

    def make_train_function(self, force=False):
        self.compiled_tasks.check_trunk(self)
        trained = [id(variable) for variable in self.trainable_variables]
        if trained != getattr(self, "_trained", trained):
            # Layers were frozen or released since the last trace.
            self._sharing = None
            force = True
        self._trained = trained
        self.build_optimizer()
        return super().make_train_function(force=force)

    def build_optimizer(self):
        """Makes the optimizer's variables for what is trainable now, if it has none yet."""
        if not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
            self.compiled_tasks.optimized = list(self.trainable_variables)

    def fit(self, x=None, y=None, *args, callbacks=None, sample_weight=None, validation_data=None, **kwargs):
        self._assert_finite(x)
        x, steps, brought = self._prepared(x, kwargs.get("steps_per_epoch"))
        kwargs["steps_per_epoch"] = steps or kwargs.get("steps_per_epoch")
        validation_data, steps, _ = self._prepared(validation_data, training=False)
        kwargs["validation_steps"] = kwargs.get("validation_steps") or steps
        given = callbacks
        callbacks = with_callback(callbacks, EndOfEpoch())
        for callback in brought:
            if callback not in keras.tree.flatten(given):
                callbacks = with_callback(callbacks, callback)
        self.compiled_tasks.check_columns(y)
        if isinstance(validation_data, (list, tuple)) and len(validation_data) == 3:
            val_x, val_y, val_weight = validation_data
            validation_data = (val_x, val_y, _for_all_labels(val_y, val_weight, self.tasks))
        return super().fit(
            x,
            y,
            *args,
            callbacks=callbacks,
            sample_weight=_for_all_labels(y, sample_weight, self.tasks),
            validation_data=validation_data,
            **kwargs,
        )

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Nothing is left to build: layers are, the optimizer comes in `make_train_function`, and losses and metrics are
        # our own. What Keras 3.15 does here with a batch fails under `MultiWorkerMirroredStrategy`.
        del iterator, data_batch

    def train_on_batch(self, x, y=None, sample_weight=None, **kwargs):
        logs = super().train_on_batch(x, y, sample_weight=_for_all_labels(y, sample_weight, self.tasks), **kwargs)
        raise_nonfinite(self)
        return logs

    def evaluate(self, x=None, y=None, *args, sample_weight=None, **kwargs):
        if not kwargs.get("_use_cached_eval_dataset"):  # else `fit` has prepared it
            x, steps, _ = self._prepared(x, training=False)
            kwargs["steps"] = kwargs.get("steps") or steps
        self._evaluating = True
        try:
            return super().evaluate(x, y, *args, sample_weight=_for_all_labels(y, sample_weight, self.tasks), **kwargs)
        finally:
            self._evaluating = False

    def test_on_batch(self, x, y=None, sample_weight=None, **kwargs):
        self._evaluating = True
        try:
            return super().test_on_batch(x, y, sample_weight=_for_all_labels(y, sample_weight, self.tasks), **kwargs)
        finally:
            self._evaluating = False

    def _prepared(self, data, steps_per_epoch=None, training=True):
        """Data as Keras takes them, their steps and callbacks where they bring any, as `keras_mtl.data.mix` does."""
        prepare = getattr(data, "prepare_for", None)
        return (data, None, []) if prepare is None else prepare(self, steps_per_epoch, training)

    def _assert_finite(self, x):
        for array in keras.tree.flatten(x):
            # A sum is quick and is NaN where any entry is.
            if isinstance(array, np.ndarray) and array.dtype.kind == "f" and np.isnan(array.sum(dtype="float64")):
                raise ValueError(
                    f"`x` should have no NaN. Received: an array of shape {array.shape} with "
                    f"{int(np.isnan(array).sum())} NaN. Labels may be missing, inputs may not."
                )


def _for_all_labels(y, sample_weight, tasks):
    """Sample weights with an entry for every task in `y`, as Keras wants them."""
    if not isinstance(y, dict) or not isinstance(sample_weight, dict):
        return sample_weight
    unknown = [key for key in sample_weight if key not in tasks]
    if unknown:
        raise ValueError(f"The keys of `sample_weight` should be tasks: {tasks}. Received: {unknown}")
    return {key: sample_weight.get(key) for key in y}


def _exclude_from_weight_decay(optimizer, variables):
    """Keeps learned weightings out of the optimizer's weight decay."""
    if not variables or optimizer is None or optimizer.built:
        return
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    for one in getattr(optimizer, "optimizers", [optimizer]):
        # Keras replaces what was excluded before by what is excluded now, and tells nobody what it was.
        before = set(getattr(one, "_exclude_from_weight_decay", ()))
        pattern = getattr(one, "_exclude_from_weight_decay_pattern", None)
        one.exclude_from_weight_decay(var_list=variables, var_names=[pattern.pattern] if pattern else None)
        one._exclude_from_weight_decay |= before
