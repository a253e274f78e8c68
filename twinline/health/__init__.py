"""Whether hosts answer: what a look at one means, and how much of a time it answered; pure functions."""
