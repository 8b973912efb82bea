"""What clients see of a server: addresses, requests, limits, token, figures. No Ray: tests need none."""
