"""What the demo needs: tiny trained language models in the package, and text found on the machine.

The models are folders as transformers' `from_pretrained` reads them; each has a card, README.md,
that says how `tools/train_demo_models.py` trained it. This module loads none of them.
"""

from __future__ import annotations

from pathlib import Path

MODELS = ("stdlib-a", "stdlib-b", "stdlib-gpt2")
"""Two seeds of one architecture with one tokenizer, then another architecture with another."""


def models_folder() -> Path:
    """The folder that holds one folder for each of MODELS."""
    return Path(__file__).parent / "models"
