"""Makes load and writes facts. Nothing here judges them: that is `analysis`."""
