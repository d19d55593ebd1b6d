"""Small grey faces, drawn by formulas: five landmarks, and four attributes that go with where they are.

A turned head shifts and squeezes the landmarks, a smile lifts the corners of the mouth. Half of the faces are partly
hidden behind a rectangle. Nothing is installed or downloaded for them.
"""

import numpy as np

SIDE = 24
POSES = 5
ATTRIBUTES = {"pose": POSES, "gender": 2, "glasses": 2, "smile": 2}  # number of classes
# Eyes, nose and corners of the mouth: to the right, down, and to the front, in units of half the face.
POINTS = np.array([(-0.42, -0.25, 0.15), (0.42, -0.25, 0.15), (0.0, 0.08, 0.45), (-0.30, 0.45, 0.2), (0.30, 0.45, 0.2)])


def generated_faces(count, seed):
    """Draws faces.

    Args:
        count: Integer. How many.
        seed: Integer, or a sequence of integers.

    Returns:
        Tuple of pictures, of shape (count, 24, 24, 1), mostly from 0 to 1, and a dict of labels: "landmarks" of shape
        (count, 10), x and y in turn, from -1 to 1 over the picture, and classes of shape (count,) for every attribute.
    """
    rng = np.random.default_rng(seed)
    labels = {name: rng.integers(0, classes, count).astype("int32") for name, classes in ATTRIBUTES.items()}
    yaw = np.radians((labels["pose"] - 2) * 18 + rng.uniform(-7, 7, count))
    size = rng.uniform(0.6, 0.8, count)
    center = rng.uniform(-0.15, 0.15, (count, 2))
    points = _landmarks(labels, yaw, rng, count)
    landmarks = center[:, None] + size[:, None, None] * points

    axis = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    pixels = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(1, -1, 2)  # x to the right, y down
    face = (pixels - center[:, None]) / size[:, None, None]  # the same in units of half the face
    picture = rng.uniform(0.0, 0.6, (count, 1)) + (rng.normal(0, 0.15, (count, 1, 2)) * pixels).sum(-1)  # the light
    picture = _draw(picture, face, points, labels, yaw, rng, count)
    hidden = (rng.random(count) < 0.5)[:, None]
    low = rng.uniform(-0.9, 0.5, (count, 1, 2))
    inside = ((pixels > low) & (pixels < low + rng.uniform(0.3, 0.7, (count, 1, 2)))).all(-1)
    picture = np.where(hidden & inside, rng.uniform(0, 1, (count, 1)), picture)
    picture = picture + rng.normal(0, 0.06, picture.shape)
    labels["landmarks"] = landmarks.reshape(count, 10).astype("float32")
    return picture.reshape(count, SIDE, SIDE, 1).astype("float32"), labels


def _landmarks(labels, yaw, rng, count):
    """Where the landmarks of each face are, of shape (count, 5, 2), in units of half the face."""
    points = POINTS + rng.normal(0, 0.025, (count, 5, 3))
    points[:, 3:, 1] -= 0.09 * labels["smile"][:, None]  # a smile lifts the corners
    points[:, 3:, 0] *= 1 + 0.2 * labels["smile"][:, None]
    x = points[..., 0] * np.cos(yaw)[:, None] + points[..., 2] * np.sin(yaw)[:, None]
    roll = np.radians(rng.uniform(-10, 10, count))
    cos, sin = np.cos(roll)[:, None], np.sin(roll)[:, None]
    return np.stack([cos * x - sin * points[..., 1], sin * x + cos * points[..., 1]], axis=-1)


def _draw(picture, face, points, labels, yaw, rng, count):
    def spot(place, width):
        return np.exp(-((face - place[:, None]) ** 2).sum(-1) / (2 * width**2))

    def paint(picture, cover, level):
        return picture + cover * (level[:, None] - picture)

    gender = labels["gender"][:, None]
    wide = np.where(gender == 1, 0.72, 0.82)
    inside = 1 / (1 + np.exp(12 * (np.hypot(face[..., 0] / wide, face[..., 1] / 0.98) - 1)))
    skin, hair = rng.uniform(0.55, 0.95, count), rng.uniform(0.0, 0.4, count)
    picture = paint(picture, inside, skin)
    fringe = 1 / (1 + np.exp(14 * (face[..., 1] + np.where(gender == 1, 0.52, 0.66))))
    picture = paint(picture, np.clip(inside * fringe, 0, 1), hair)
    for eye in (0, 1):
        picture = paint(picture, 0.9 * spot(points[:, eye], 0.09), np.full(count, 0.1))
        brow = points[:, eye] + [0.0, -0.2]
        picture = paint(picture, np.where(gender == 1, 0.35, 0.8) * spot(brow, 0.08), hair)
        distance = np.sqrt(((face - points[:, None, eye]) ** 2).sum(-1))
        ring = np.exp(-((distance - 0.24) ** 2) / (2 * 0.05**2))
        picture = paint(picture, 0.85 * labels["glasses"][:, None] * ring, np.full(count, 0.15))
    picture = paint(picture, 0.5 * spot(points[:, 2], 0.1), skin - 0.3)
    middle = points[:, 3:].mean(1) + np.stack([np.zeros(count), 0.03 + 0.16 * labels["smile"]], axis=1)
    for t in np.linspace(0, 1, 7):  # a parabola through the corners
        place = (1 - t) * (1 - 2 * t) * points[:, 3] + 4 * t * (1 - t) * middle + t * (2 * t - 1) * points[:, 4]
        picture = paint(picture, 0.6 * spot(place, 0.06), np.full(count, 0.2))
    return picture + 0.25 * np.sin(yaw)[:, None] * face[..., 0] * inside  # light from the side
