"""What a head that many machines report to costs: measured with made foremen."""
