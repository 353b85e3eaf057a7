"""A vLLM server as a process of ours: started, checked to be what was asked, stopped."""
