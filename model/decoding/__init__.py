"""From logits to tokens: greedy and beam search, and a Llama's steps."""
