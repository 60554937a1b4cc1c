"""From texts and models to features: corpora, tokens, hooks, training, encoding, analysis.

What lies where, in the order of an ingest:

    plan, sweep, imports, partners      what is asked for: options, SAEs to train, to import, models
    prepare, run, workspace, commit     one ingest: checked, its stages, resuming, writing
    corpus, words, tokens, contexts     text to documents, words, tokens and windows of tokens
    reference, forms                    the corpus that all models of an atlas are measured on
    models, checkpoint, joint           language models: loading, reading them, several side by side
    blocks, sublayers, hooks, sites     where in them, and how; what one dictionary reads and writes
    making, specs, layer_groups         the SAEs of a plan: trained or read
    train, end_to_end, training         loops of training, and the state that they share
    trainee, architectures/             what a loop asks of an SAE, and every kind of them
    record, adam, forwards              a training's course; its optimizer; a model on all cores
    formats/                            published SAEs: one format a module, and writing SAELens's
    gate, conformance, readings         whether an imported SAE does what its publisher says
    encode, parts                       one pass over the reference corpus
    quality, losses, geometry           how faithful an SAE is, and how its directions lie
    functions, probing, absorption      what its features are good for, by the text alone
    properties, logistic                what probes look for, and how
    analyze, examples, segments         statistics and contexts of each feature
    signatures, lens                    sketches for neighbour search; the logit lens
    labels, label_kinds                 first labels, from words and tokens alone
    demo, stdlib_corpus                 the demo's atlas and its text
"""
