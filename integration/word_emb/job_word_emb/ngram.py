"""The model: the vectors of four words, one hidden layer, and how likely each word comes next.

Its parameters are tables of rows, the biases a column of them.
"""

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

CONTEXT, EMBEDDING, HIDDEN = 4, 16, 24
FLOAT = np.float32

Tables = dict[str, np.ndarray]


def shapes(words: int) -> dict[str, tuple[int, int]]:
    """Return rows and columns of each table."""
    return {
        "embedding": (words, EMBEDDING),
        "hidden": (HIDDEN, CONTEXT * EMBEDDING + 1),
        "output": (words, HIDDEN + 1),
    }


def columns_of(name: str) -> int:
    """Return the columns of a table, which do not depend on how many words there are."""
    return shapes(0)[name][1]


def first(name: str, rows: int, columns: int) -> np.ndarray:
    """Return a table before the first step, the same wherever it is made."""
    dice = np.random.default_rng(sum(name.encode()))
    return (dice.standard_normal((rows, columns)) / np.sqrt(columns)).astype(FLOAT)


def read_dictionary(path: Path) -> dict[str, int]:
    """Return the number of each word; that of an unknown one is 0."""
    return {word: number for number, word in enumerate(pickle.loads(path.read_bytes()))}


def grams(files: list[Path], numbers: Mapping[str, int]) -> np.ndarray:
    """Return every five words that follow one another, as numbers: the input is four of them, the output the fifth."""
    return np.array(list(_grams(files, numbers)), dtype=np.int32).reshape(-1, CONTEXT + 1)


def _grams(files: list[Path], numbers: Mapping[str, int]) -> Iterator[list[int]]:
    for file in files:
        for line in file.read_text().splitlines():
            words = [0] * (CONTEXT - 1) + [numbers.get(word, 0) for word in line.split()]
            for start in range(len(words) - CONTEXT):
                yield words[start : start + CONTEXT + 1]


def loss_of(tables: Tables, data: np.ndarray) -> float:
    """Return the mean cross entropy of the next word, in nats."""
    losses = [_forward(tables, data[start : start + 1024])[3] for start in range(0, len(data), 1024)]
    return float(np.concatenate(losses).mean())


def step(tables: Tables, batch: np.ndarray) -> tuple[float, Tables]:
    """Return the loss of a batch, and the gradient of each table.

    Args:
        tables: of `embedding` only the rows that the batch names, which it numbers by their places there.
    """
    inputs, hidden, odds, losses = _forward(tables, batch)
    count = len(batch)
    back = odds
    back[np.arange(count), batch[:, -1]] -= 1
    back /= count
    with_one = np.hstack([hidden, np.ones((count, 1), FLOAT)])
    to_hidden = (back @ tables["output"][:, :-1]) * (1 - hidden**2)
    to_inputs = (to_hidden @ tables["hidden"][:, :-1]).reshape(count * CONTEXT, EMBEDDING)
    embedding = np.zeros_like(tables["embedding"])
    np.add.at(embedding, batch[:, :CONTEXT].ravel(), to_inputs)
    return float(losses.mean()), {
        "embedding": embedding,
        "hidden": to_hidden.T @ inputs,
        "output": back.T @ with_one,
    }


def unigram_loss(train: np.ndarray, test: np.ndarray, words: int) -> float:
    """Return the loss of who knows nothing but how frequent each word is."""
    counts = np.bincount(train[:, -1], minlength=words) + 1
    return float(-np.log(counts / counts.sum())[test[:, -1]].mean())


def _forward(tables: Tables, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    count = len(batch)
    vectors = tables["embedding"][batch[:, :CONTEXT]].reshape(count, CONTEXT * EMBEDDING)
    inputs = np.hstack([vectors, np.ones((count, 1), FLOAT)])
    hidden = np.tanh(inputs @ tables["hidden"].T)
    scores = hidden @ tables["output"][:, :-1].T + tables["output"][:, -1]
    scores -= scores.max(axis=1, keepdims=True)
    odds = np.exp(scores)
    odds /= odds.sum(axis=1, keepdims=True)
    return inputs, hidden, odds, -np.log(odds[np.arange(count), batch[:, -1]] + 1e-9)
