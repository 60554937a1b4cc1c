"""What there is to say of each feature: statistics, examples, labels, the logit lens."""
