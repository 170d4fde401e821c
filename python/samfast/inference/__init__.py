"""What it means to segment, without saying with what: prompts to tokens, the selection rule, post-processing."""
