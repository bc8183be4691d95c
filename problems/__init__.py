"""What is learnt: one module per problem, found by listing this package.

`problems.outline` holds what they are made of.
"""
