"""From a text to what the example learns from: a dictionary, and files of sentences to learn from and to test with.

python make_data.py ./job_word_emb a_book.txt
"""

import pickle
import re
import sys
from collections import Counter
from pathlib import Path

UNKNOWN = "<unk>"
TRAIN_FILES = 8
TEST_EVERY = 10


def make(package: Path, text: str, *, words_max: int = 500) -> None:
    """Write the dictionary and the data of a package.

    Args:
        words_max: so many words are known, the most frequent ones; all others are one.
    """
    sentences = [re.findall(r"[a-z]+", sentence.lower()) for sentence in re.split(r"[.:;!?]\s|\n\n", text)]
    sentences = [sentence for sentence in sentences if len(sentence) > 1]
    test = sentences[::TEST_EVERY]
    train = [sentence for number, sentence in enumerate(sentences) if number % TEST_EVERY]
    known = Counter(word for sentence in train for word in sentence).most_common(words_max - 1)
    (package / "dict1.pickle").write_bytes(pickle.dumps([UNKNOWN, *(word for word, _ in known)]))
    for number in range(TRAIN_FILES):
        _write(package / f"data/train/train.txt-{number:05}", train[number::TRAIN_FILES])
    _write(package / "data/test/test.txt-00000", test)


def _write(path: Path, sentences: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(" ".join(sentence) + "\n" for sentence in sentences))


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]).read_text())
