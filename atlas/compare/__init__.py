"""How alike the features of two SAEs are: pairs of features, measures of spaces, and chance.

settings                        how features are paired
activity                        one SAE's activations over words or tokens, as integers
products, loops                 sums over all pairs of two SAEs' features, by compiled loops
pairing, assignment, chance     which feature goes with which, and whether it could be chance
lan2024, sae_match              two published ways to pair
top_texts, semantic             what features fire on; features of one meaning
measures                        the measures of paired features by name
spaces, rsa, kendall            SVCCA, CKA, Procrustes; RSA; and one of its correlations
prepared, nulls                 values with the pairs shuffled; nulls, p, q, calibration
grams, entry_loops, eigenvalues what makes thousands of shufflings fast
question, comparer              one set of pairs measured; one question about two SAEs answered
kept, study                     answers in the atlas's tables; many questions answered and kept
"""
