"""What lets tests run beside others, on a busy machine."""
