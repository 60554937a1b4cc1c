"""Every error the atlas tells a user: one sentence saying what, where and the next step.

AtlasError              exit code 1
├── NotAnAtlas          the file exists but is no atlas
├── NewerAtlas          written by a newer version of this package
├── AtlasLocked         another process is writing it (or reading, when we want to write)
├── NotFound            no such model, SAE, feature, macro
├── BadInput            a corpus, model, tokenizer or option that cannot be used
└── QueryError          SQL that DuckDB refuses
"""

from __future__ import annotations


class AtlasError(Exception):
    """Base of all told errors; `str(error)` is the sentence shown to the user."""


class NotAnAtlas(AtlasError):
    """The path names a file that is not an atlas."""


class NewerAtlas(AtlasError):
    """The atlas was written by a newer version of this package."""


class AtlasLocked(AtlasError):
    """Another process holds the lock on the atlas file."""


class NotFound(AtlasError):
    """A name that the atlas does not know."""


class BadInput(AtlasError):
    """An input from outside (corpus, model, tokenizer, option) that cannot be used."""


class QueryError(AtlasError):
    """A query that DuckDB refuses."""
