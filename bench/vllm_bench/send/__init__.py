"""The sending process: it alone knows asyncio and the socket."""
