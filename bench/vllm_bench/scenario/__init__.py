"""What scenarios.yaml may say."""
