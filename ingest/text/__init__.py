"""The text that models are trained and measured on: documents, words, tokens, windows of tokens."""
