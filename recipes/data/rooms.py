"""Two rooms and a corridor, in which goals are to be found."""

import gymnasium
import numpy as np

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right


class TwoRooms(gymnasium.Env):
    """Two rooms and a corridor; moves into walls leave the agent where it is.

    Args:
        goal: Integer. Index among the cells of the rooms.
        starts: `"other"`, for starts in the other room than the goal's, or
            `"anywhere"` in the rooms.
    """

    def __init__(self, goal, starts="other", size=5, corridor=8, step=-0.1, reward=10.0):
        width = 2 * size + corridor
        self.free = np.zeros((size, width), bool)
        self.free[:, :size] = self.free[:, -size:] = self.free[size // 2] = True
        self.cells = np.argwhere(self.free)
        index = {tuple(cell): i for i, cell in enumerate(self.cells)}
        moved = [[index.get((y + dy, x + dx), i) for dy, dx in MOVES] for i, (y, x) in enumerate(self.cells)]
        self.after = np.array(moved)
        rooms = np.flatnonzero((self.cells[:, 1] < size) | (self.cells[:, 1] >= width - size))
        self.goal = int(rooms[goal])
        left = self.cells[:, 1] < width // 2
        fit = [i for i in rooms if (left[i] != left[self.goal] if starts == "other" else i != self.goal)]
        self.starts = np.array(fit)
        self.rewards = (step, reward)
        self.observation_space = gymnasium.spaces.Discrete(len(self.cells))
        self.action_space = gymnasium.spaces.Discrete(len(MOVES))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = int(self.np_random.choice(self.starts))
        return self.state, {}

    def step(self, action):
        self.state = int(self.after[self.state, action])
        done = self.state == self.goal
        return self.state, self.rewards[done], done, False, {}
