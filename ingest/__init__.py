"""From texts and models to features: corpora, tokens, hooks, training, encoding, analysis.

The run itself, in its order:

    plan, partners, prepare   what is asked for, checked; the models, the SAEs to make
    run, workspace            its stages, each resumed where an interrupted one stopped
    specs, making, gate       the SAEs of a plan: trained or read, and judged where they were read
    writing/                  rows of the atlas: one transaction, all or nothing
    demo                      the demo's atlas

and afterwards:

    known                     an atlas's models and SAEs, loaded to be run again
    causal, edge_sample       what linked features lose when the upstream one is ablated

What it is made of; a package uses those below it, none above:

    describing/   features: statistics, examples, signatures, first labels, the logit lens
    importing/    published SAEs: a module a format, finding their place, whether they do as is said
    measuring/    one pass over the reference corpus; faithfulness, geometry, probing, absorption,
                  ablation
    training/     loops of training, their state and course; `architectures/`: every kind of SAE
    models/       language models: loading, randomising, where in them to read, several side by side
    text/         corpora to documents, words, tokens, windows of tokens; the reference corpus
"""
