"""Law -> decision: what to train and what it costs."""
