"""The atlas as a web page: what answers it on this machine, and its export to one file.

    viewed      the atlas as every request shares it
    given       the parameters of a request
    overview, features, comparisons, graph, lineage, communities, sentence, query
                the answers, each a function of (viewed, connection, parameters) to plain objects
    answers     which address asks for which
    guard       who may ask at all
    app         the answers over HTTP
    server      the process that `atlas view` runs
    export      the page and the answers for some features in one file

Nothing here is needed to read or to write an atlas.
"""
