"""Skin, glasses and smile of drawn faces: can teachers repair a trunk that loses the smile?

About half an hour on two cores, a minute with --quick; downloads nothing, but draws 9,000 faces once.

In recipes/faces.py a trunk that serves all three tasks hardly learns the smile. Here single-task models are the
teachers, and the same trunk is the student. A hint makes the student's last stage, through a linear map, say what the
last stage of the smile's teacher does.

What it can show: whether soft targets, teacher annealing or a hint repair this negative transfer. What it cannot: that
they would elsewhere. Teachers cost their own training first; no model is trained to the end.

    python recipes/studies/distill_faces.py [--quick] [--seeds 5] [--epochs 6]
"""

import parent  # noqa: F401
from common import SINGLE, command_line, study

import faces as recipe
import keras
from data.faces import FEW, SPLITS, drawn_faces

from keras_mtl import hard_sharing
from keras_mtl.distillation import distill

TASKS = tuple(recipe.CLASSES)
LAST_STAGE = -1 - len(TASKS)  # the layer of a model before its heads
HARD = "hard sharing"


def hinted(student, teachers):
    smile = teachers["smile"]
    hint = (student.layers[LAST_STAGE].name, smile, smile.layers[-2].name)
    return distill(student, teachers, temperature=2.0, annealing=0.5, hints={"smile_hint": hint})


STUDENTS = {
    HARD: lambda student, teachers: student,
    "annealed (BAM)": distill,
    "soft targets": lambda student, teachers: distill(student, teachers, temperature=2.0, annealing=0.0),
    "soft + hard": lambda student, teachers: distill(student, teachers, temperature=2.0, annealing=0.5),
    "soft + hard + hint": hinted,
}


def main():
    options = command_line(
        __file__,
        __doc__,
        models=[SINGLE, *STUDENTS],
        quick_models=[SINGLE, "soft + hard + hint"],
        epochs=(6, 1),
    )
    data = drawn_faces(TASKS, FEW if options.quick else SPLITS)
    teachers = {}  # of this seed: single-task models come first

    def run(name, seed, callbacks):
        model = recipe.build(hard_sharing, {"shared_depth": 0 if name == SINGLE else None})
        fit = model if name == SINGLE else STUDENTS[name](model, teachers)
        compiled = recipe.compile_options(len(data["train"][0]), options.epochs)
        fit.compile(**compiled)
        keras.utils.set_random_seed(seed)  # the same batches for all
        fit.fit(
            *data["train"],
            batch_size=recipe.BATCH,
            epochs=options.epochs,
            validation_data=data["validation"],
            validation_batch_size=500,
            callbacks=callbacks,
            verbose=0,
        )
        if name == SINGLE:
            teachers.update({task: model.task_model(task) for task in TASKS})
        outputs = model.predict(data["test"][0], batch_size=500, verbose=0)
        right = {task: 100 * (outputs[task].argmax(1) == labels).mean() for task, labels in data["test"][1].items()}
        return {"parameters": model.count_params(), **right}

    study(run, options, TASKS, title="Test accuracy in percent", reference=SINGLE)


if __name__ == "__main__":
    main()
