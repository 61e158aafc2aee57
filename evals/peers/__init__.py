"""Other ways to ask a person before a tool runs, each set up as its own documentation says.

One adapter a file, at most 150 lines. What a framework keeps between a question and its answer is
kept as its documentation tells to, by `Conversation`, which looks to the runner like a compiled graph.
"""
