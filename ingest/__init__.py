"""From texts and models to features: corpora, tokens, hooks, training, encoding, analysis.

What lies where:

    plan, run, workspace, commit        one ingest: what it will do, its stages, resuming, writing
    corpus, words, tokens, contexts     text to documents, words, tokens and windows of tokens
    reference, forms                    the corpus that all models of an atlas are measured on
    models, checkpoint                  language models: loading, reading them
    blocks, sublayers, hooks            where in them, and how
    train, trainee, topk, adam          SAEs in training; forwards: a model on all cores
    encode, parts                       one pass over the reference corpus
    quality, losses, geometry           how faithful an SAE is, and how its directions lie
    functions, probing, absorption      what its features are good for, by the text alone
    properties, logistic                what probes look for, and how
    conformance, readings               whether an imported SAE does what its publisher says
    analyze, examples, segments         statistics and contexts of each feature
    signatures, lens                    sketches for neighbour search; the logit lens
    labels, label_kinds                 first labels, from words and tokens alone
    demo, stdlib_corpus                 the demo's atlas and its text
"""
