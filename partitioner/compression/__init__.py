"""Weight-only compression: weights in 8 and 4 bits, as few as an accuracy budget allows.

``ops.py`` has the product with packed weights, ``quantise.py`` the numbers (by NNCF),
``rewrite.py`` puts them into a graph, ``search.py`` finds the precision of each segment.
"""
