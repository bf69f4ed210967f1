"""Choose: the search space, accuracy under decryption errors, the exact optimum, and its confirmation."""
