"""The machines of a session, as the head has them."""
