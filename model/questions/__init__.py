"""What may be asked about a pair, in which words, what a question means, and how it is answered."""
