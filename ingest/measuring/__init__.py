"""What SAEs do on the reference corpus: activations, faithfulness, what features tell of text."""
