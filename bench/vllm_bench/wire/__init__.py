"""The socket of a stream: request bytes out, stamped body bytes in."""
