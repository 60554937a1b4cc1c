"""The word forms of the reference corpus: what each word looks like, without the white space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atlas.ingest.text.reference import Reference
from atlas.ingest.text.words import word_form

NO_SPACE, SPACE, NEWLINE = range(3)
"""What follows a word: nothing, white space within a line, or white space with a line's end."""


@dataclass(frozen=True)
class WordForms:
    """Every word's form, as an index into lists of distinct forms; words as in `Reference`."""

    written: NDArray[np.int32]
    """(n_words,) index into `written_forms`."""
    written_forms: list[str]
    """Distinct forms as written, in order of first occurrence."""
    lower: NDArray[np.int32]
    """(n_words,) index into `lower_forms`."""
    lower_forms: list[str]
    """Distinct lower-case forms."""
    document: NDArray[np.int32]
    """(n_words,) ascending."""
    after: NDArray[np.int8]
    """(n_words,) NO_SPACE, SPACE or NEWLINE."""

    def __len__(self) -> int:
        return len(self.written)

    @classmethod
    def build(cls, reference: Reference) -> WordForms:
        """Read the forms off the reference documents."""
        numbers: dict[str, int] = {}
        written = np.empty(reference.n_words, np.int32)
        after = np.empty(reference.n_words, np.int8)
        for number, document in enumerate(reference.documents):
            text = document.text
            words = slice(*reference.first_word[number : number + 2].tolist())
            forms, ends = [], []
            for start, end in zip(
                reference.word_start[words].tolist(),
                reference.word_end[words].tolist(),
                strict=True,
            ):
                form = word_form(text, start, end)
                forms.append(numbers.setdefault(form, len(numbers)))
                tail = text[start + len(form) : end]
                ends.append(NEWLINE if "\n" in tail else SPACE if tail else NO_SPACE)
            written[words] = forms
            after[words] = ends
        written_forms = list(numbers)
        lower_numbers: dict[str, int] = {}
        lower_of = np.array(
            [lower_numbers.setdefault(f.lower(), len(lower_numbers)) for f in written_forms],
            np.int32,
        )
        return cls(
            written,
            written_forms,
            lower_of[written],
            list(lower_numbers),
            np.repeat(
                np.arange(len(reference.documents), dtype=np.int32), np.diff(reference.first_word)
            ),
            after,
        )
