"""What is in a task's data: counts, lengths, labels, repeats, overlap of train and validation, and what is odd."""
