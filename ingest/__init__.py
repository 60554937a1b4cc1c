"""From texts and models to features: corpora, tokens, hooks, training, encoding, analysis."""
