"""Makes the dictionaries that trained ones are compared with: neurons, PCA, ICA, NMF, random directions."""
