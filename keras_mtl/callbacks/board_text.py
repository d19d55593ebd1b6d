"""The text cards of a dashboard."""


def sharing_card(model):
    """Which layers serve which tasks, as a Markdown table."""
    sharing = model.sharing
    lines = ["| layer | parameters | tasks | |", "|---|---:|---|---|"]
    for layer in sharing.layers:
        served = sharing.tasks_of(layer)
        whose = "all tasks" if len(served) == len(model.tasks) else ", ".join(served)
        state = "" if layer.trainable_variables else "frozen"
        lines.append(f"| {layer.name} | {layer.count_params():,} | {whose} | {state} |")
    lines.append(f"| **all** | **{sum(layer.count_params() for layer in sharing.layers):,}** | | |")
    return "\n".join(lines)


def compile_card(model):
    """What `compile` was given, as a Markdown table."""
    compiled = model.compiled_tasks
    lines = ["| setting | value |", "|---|---|"]
    lines.append(f"| optimizer | {_optimizer(model.optimizer)} |")
    lines.append(f"| weighting | `{compiled.weighting!r}` |")
    if compiled.takes_task_gradients:
        lines.append(f"| gradients | {compiled.gradients} |")
    for task, weight in model.task_weights().items():
        loss = compiled.task_losses.losses[task]
        metrics = [metric.name.removeprefix(f"{task}_") for metric in compiled.task_metrics if metric.task == task]
        also = f", metrics {', '.join(metrics)}" if metrics else ""
        lines.append(f"| {task} | {getattr(loss, 'name', loss)}, static weight {weight:g}{also} |")
    if compiled.delta_m is not None:
        for task, of_task in compiled.delta_m.baselines.items():
            values = ", ".join(f"{metric} {value:.4g}" for metric, value in of_task.items())
            lines.append(f"| {task} alone | {values} |")
    return "\n".join(lines)


def _optimizer(optimizer):
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    rate = optimizer.get_config().get("learning_rate")
    if isinstance(rate, dict):
        rate = rate["class_name"]
    elif isinstance(rate, float):
        rate = f"{rate:.3g}"
    return type(optimizer).__name__ + (f", learning rate {rate}" if rate is not None else "")
